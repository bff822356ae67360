#pragma once
// One listener of a subscriber.

#include <tenantry/channel.hpp>
#include <tenantry/codec.hpp>
#include <tenantry/detail/event_iterator.hpp>
#include <tenantry/detail/feed_core.hpp>
#include <tenantry/feed_events.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <iterator>
#include <optional>
#include <stop_token>
#include <utility>
#include <variant>

namespace tenantry {

/// What happens to messages when the queue of a subscription is full. It never holds up another one.
enum class overflow : unsigned char {
  drop_oldest,  ///< for what is current: dashboards. `lagged` tells how many
  drop_newest,  ///< what is queued is kept. `lagged` tells how many
  disconnect,   ///< the subscription ends with `closed`, after what is queued: for listeners that can resume
};

struct subscription_options {
  std::size_t capacity = 1024;  ///< messages that wait to be taken
  /// Of their payloads. A message that is larger is dropped alone, or with `disconnect` ends the subscription.
  std::size_t capacity_bytes = 8U << 20U;
  tenantry::overflow overflow = tenantry::overflow::drop_oldest;
  /// How long `subscribe` waits for the server.
  std::chrono::milliseconds timeout = std::chrono::seconds{5};
  /// Where the channel is known. There are no patterns of shard channels.
  channel_scope scope = channel_scope::global;
};

/// A listener with a queue of its own. Destroying it ends the subscription.
///
///     auto feed = sub.subscribe<alarm>(alarms(acme), {.capacity = 1024, .overflow = overflow::drop_oldest});
///     for (auto& event : feed) std::visit(..., event);   // message<alarm> | gap | lagged | closed
///
/// Not promised: that nothing is missed. But after each outage there is one `gap`, before the first message that
/// follows it, and one `lagged` where messages were dropped. What waits to be taken is bounded: between two messages
/// there is one `gap` at most, and a `lagged` before and after it. Messages of one channel come in the order in which
/// Redis published them; there is no order between channels. A channel and a pattern that matches it deliver twice.
///
/// What the codec cannot decode is counted and told to the observer, and the next one is taken.
/// Errors:   none of the connection: these become gaps.
/// Threads:  all members from any thread, but for moving it. Each event goes to one of those who wait.
/// Lifetime: may outlive its subscriber, and is closed then.
template <class T, codec_of<T> Codec = default_codec<T>>
class subscription {
 public:
  explicit subscription(detail::feed_core core) noexcept : core_{std::move(core)} {}

  /// Waits for the next event. Nothing after `closed`, and when the token was triggered.
  std::optional<feed_event<T>> next(const std::stop_token& stop = {}) { return take(no_limit, stop); }
  /// The same, for so long at most.
  std::optional<feed_event<T>> next_for(std::chrono::milliseconds at_most, const std::stop_token& stop = {}) {
    return take(until(at_most), stop);
  }
  /// The next event, if there is one.
  std::optional<feed_event<T>> try_next() { return take({}, {}); }
  [[nodiscard]] task<std::optional<feed_event<T>>> async_next(std::stop_token stop = {}) {
    return async_take(no_limit, std::move(stop));
  }
  [[nodiscard]] task<std::optional<feed_event<T>>> async_next_for(std::chrono::milliseconds at_most,
                                                                  std::stop_token stop = {}) {
    return async_take(until(at_most), std::move(stop));
  }

  /// Ends it. When this returns nothing more is delivered, and whoever waits in `next` gets nothing. Idempotent.
  void unsubscribe() noexcept { core_.unsubscribe(); }

  [[nodiscard]] subscription_counters counters() const { return core_.counters(); }

  /// The events until the last, each valid until the next is asked for.
  using iterator = detail::event_iterator<subscription, feed_event<T>>;
  iterator begin() { return iterator{*this}; }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr time_point no_limit = time_point::max();
  static time_point until(std::chrono::milliseconds at_most) noexcept {
    const time_point now = std::chrono::steady_clock::now();
    return at_most < no_limit - now ? now + at_most : no_limit;
  }

  std::optional<feed_event<T>> take(time_point limit, const std::stop_token& stop) {
    while (auto item = core_.next(limit, stop)) {
      if (auto event = read(std::move(*item))) return event;
    }
    return std::nullopt;
  }
  task<std::optional<feed_event<T>>> async_take(time_point limit, std::stop_token stop) {
    for (;;) {
      auto waiting = core_.async_next(limit, stop);
      std::optional<detail::feed_item> item = co_await std::move(waiting);
      if (!item) co_return std::nullopt;
      if (auto event = read(std::move(*item))) co_return std::move(event);
    }
  }
  std::optional<feed_event<T>> read(detail::feed_item item) {
    if (auto* const came = std::get_if<detail::published_ref>(&item)) {
      try {
        T value = Codec{}.decode((*came)->payload);
        return feed_event<T>{message<T>{.value = std::move(value), .source = std::move(*came)}};
      } catch (const std::exception& why) {
        core_.undecodable(*came, why.what());
      } catch (...) {
        core_.undecodable(*came, "an exception that is none of the standard library");
      }
      return std::nullopt;
    }
    if (auto* const missed = std::get_if<gap>(&item)) return feed_event<T>{*missed};
    if (auto* const behind = std::get_if<lagged>(&item)) return feed_event<T>{*behind};
    return feed_event<T>{std::get<closed>(std::move(item))};
  }

  detail::feed_core core_;
};

}  // namespace tenantry
