#pragma once
// One listener: its queue, and who waits for it.

#include "messaging/feed_queue.hpp"

#include <tenantry/client.hpp>
#include <tenantry/feed_events.hpp>
#include <tenantry/subscription.hpp>
#include <tenantry/task.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string_view>
#include <vector>

namespace tenantry::detail {

class topic_hub;
struct topic;

/// Threads: all members from any thread. Those for the hub are called with its lock.
class feed {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  feed(std::shared_ptr<topic_hub> hub, const subscription_options& how);

  // For the listener. A limit of `no_wait` does not wait.
  static constexpr time_point no_wait{};
  std::optional<feed_item> next(time_point limit, const std::stop_token& stop);
  static task<std::optional<feed_item>> async_next(std::shared_ptr<feed> self, time_point limit, std::stop_token stop);
  void unsubscribe() noexcept;
  [[nodiscard]] subscription_counters counters() const;
  void undecodable(const published_ref& what, std::string_view why);
  /// Whoever listened does not any more.
  static void drop(std::shared_ptr<feed> last) noexcept;

  // For whoever subscribes: until the server has confirmed or refused it. What it was refused for, or nothing.
  enum class state : unsigned char { pending, active, refused };
  state wait_settled(time_point limit);
  [[nodiscard]] state settled(std::shared_ptr<const error>& why) const;
  /// Triggered when something changes.
  std::stop_token changed();

  // For the hub. One owner of the message is the feed's from now on.
  enum class outcome : unsigned char { kept, dropped, ended };
  outcome deliver(published* counted);
  void activate();
  void tell(const gap& missed);
  void end(closed how);

  // The hub's own, under its lock.
  topic* in = nullptr;
  std::size_t place = 0;                   // in there
  bool active = false;                     // the server has confirmed it
  bool begun = false;                      // at any time
  std::optional<time_point> outage_since;  // and that is over
  gap_cause outage_cause = gap_cause::connection_lost;

 private:
  std::optional<feed_item> take();
  std::optional<feed_item> end_in_child();
  void client_closed();
  void notify(std::unique_lock<std::mutex> held);
  void forget(const std::stop_source& wake);

  // What each message touches comes first.
  mutable std::mutex mutex_;
  std::atomic<bool> empty_ = true;  // as of the last change: who does not wait need not lock
  unsigned waiting_ = 0;            // threads
  state state_ = state::pending;
  std::vector<std::stop_source> wake_;  // of coroutines
  feed_queue queue_;

  std::condition_variable changed_;
  const std::shared_ptr<topic_hub> hub_;
  std::shared_ptr<const error> why_;
  std::atomic<bool> over_in_child_ = false;  // of a fork
  std::shared_ptr<feed> kept_;               // itself, there
  time_point next_report_{};                 // of what cannot be decoded
};

}  // namespace tenantry::detail
