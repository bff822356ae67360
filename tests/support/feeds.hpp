#pragma once
// What tests of subscribers share: channels, events in words, a publisher at full speed, and a listener that checks the
// order of what it gets.

#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/subscription.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace support {

inline constexpr tenantry::channel_schema<"alarms:{tenant}"> alarms;
inline constexpr tenantry::channel_schema<"news:{tenant}:{topic}"> news;

using text_feed = tenantry::subscription<std::string>;

/// So much that no queue is ever full.
inline constexpr tenantry::subscription_options roomy{
    .capacity = std::size_t{1} << 24U, .capacity_bytes = std::size_t{1} << 32U, .timeout = std::chrono::seconds{20}};

/// An event in words: the message, "gap", "-3" for three dropped, "closed: why", "nothing".
inline std::string words(const std::optional<tenantry::feed_event<std::string>>& event) {
  if (!event) return "nothing";
  if (const auto* came = std::get_if<tenantry::message<std::string>>(&*event)) return came->value;
  if (const auto* behind = std::get_if<tenantry::lagged>(&*event)) return '-' + std::to_string(behind->dropped);
  if (const auto* end = std::get_if<tenantry::closed>(&*event)) return "closed: " + std::string{to_string(end->cause)};
  return "gap";
}
inline std::string next_of(text_feed& from, std::chrono::milliseconds at_most = std::chrono::seconds{20}) {
  return words(from.next_for(at_most));
}

inline std::int64_t listening(const tenantry::caller& redis, const tenantry::channel& to) {
  return redis.execute("PUBSUB", "NUMSUB", to)[1].integer();
}
inline std::int64_t shard_listening(const tenantry::caller& redis, const tenantry::channel& to) {
  return redis.execute("PUBSUB", "SHARDNUMSUB", to)[1].integer();
}
inline std::int64_t patterns_listening(const tenantry::caller& redis) {
  return redis.execute("PUBSUB", "NUMPAT").integer();
}
inline std::size_t channels_listening(const tenantry::caller& redis) {
  return redis.execute("PUBSUB", "CHANNELS").elements().size();
}
inline bool nobody_listens(const tenantry::caller& redis) {
  return eventually([&] { return channels_listening(redis) == 0 && patterns_listening(redis) == 0; });
}
/// Ends every connection that is subscribed.
inline std::int64_t kill_listeners(const tenantry::caller& redis) {
  return redis.execute("CLIENT", "KILL", "TYPE", "pubsub").integer();
}
inline bool adds_up(const tenantry::subscription_counters& all) {
  return all.received == all.delivered + all.dropped + all.queued;
}

/// Publishes ascending numbers from 1 in batches until it is stopped, through a client of its own. Where a batch fails
/// its numbers are not used again.
class numbers_at_full_speed {
 public:
  numbers_at_full_speed(const std::string& url, tenantry::channel to, std::size_t batch = 32,
                        tenantry::channel_scope scope = tenantry::channel_scope::global)
      : redis_{url}, to_{std::move(to)}, thread_{[this, batch, scope] { run(batch, scope); }} {}
  numbers_at_full_speed(const numbers_at_full_speed&) = delete;
  numbers_at_full_speed& operator=(const numbers_at_full_speed&) = delete;
  ~numbers_at_full_speed() { (void)stop(); }

  /// The last number; nothing is published after it returned.
  std::uint64_t stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return last_;
  }
  /// How many were published so far.
  [[nodiscard]] std::uint64_t last() const { return last_; }

 private:
  void run(std::size_t batch, tenantry::channel_scope scope) {
    const tenantry::publisher pub{redis_, {.timeout = std::chrono::seconds{20}, .scope = scope}};
    std::uint64_t number = 0;
    std::vector<tenantry::outgoing> all;
    while (!stop_) {
      all.clear();
      for (std::size_t i = 0; i < batch; ++i) all.push_back({.to = to_, .payload = std::to_string(++number)});
      try {
        (void)pub.publish_all(all);
        last_ = number;
      } catch (const tenantry::error&) {
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
      }
    }
  }

  tenantry::client redis_;
  tenantry::channel to_;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> last_ = 0;
  std::thread thread_;  // last: it uses the others
};

/// Reads a subscription to the end on a thread of its own, and holds what it gets against what is promised.
class follower {
 public:
  explicit follower(text_feed feed) : feed_{std::move(feed)}, thread_{[this] { run(); }} {}
  follower(const follower&) = delete;
  follower& operator=(const follower&) = delete;
  ~follower() { end(); }

  void end() {
    stop_.request_stop();
    if (thread_.joinable()) thread_.join();
  }

  [[nodiscard]] tenantry::subscription_counters counters() const { return feed_.counters(); }

  std::atomic<std::uint64_t> last = 0;  ///< number
  std::atomic<std::uint64_t> messages = 0;
  std::atomic<std::uint64_t> gaps = 0;
  std::atomic<std::uint64_t> missing = 0;      ///< numbers that never came
  std::atomic<std::uint64_t> disordered = 0;   ///< that are not higher than the one before
  std::atomic<std::uint64_t> unexplained = 0;  ///< times that numbers are missing without a gap before the next one
  std::atomic<std::uint64_t> lagging = 0;
  std::atomic<std::uint64_t> overlapping = 0;  ///< gaps that begin before the one before them ended
  std::atomic<bool> closed = false;

 private:
  void run() {
    bool told = true;  // before the first message
    std::chrono::steady_clock::time_point until{};
    while (const auto event = feed_.next(stop_.get_token())) {
      if (const auto* came = std::get_if<tenantry::message<std::string>>(&*event)) {
        const std::uint64_t number = std::stoull(came->value);
        if (number <= last) ++disordered;
        if (number > last + 1 && messages > 0) {
          missing += number - last - 1;
          if (!told) ++unexplained;
        }
        told = false;
        ++messages;
        last = number;
      } else if (const auto* missed = std::get_if<tenantry::gap>(&*event)) {
        told = true;
        if (missed->from < until || missed->to < missed->from) ++overlapping;
        until = missed->to;
        ++gaps;
      } else if (std::holds_alternative<tenantry::lagged>(*event)) {
        ++lagging;
      } else {
        closed = true;
      }
    }
  }

  text_feed feed_;
  std::stop_source stop_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace support
