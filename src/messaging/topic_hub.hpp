#pragma once
// One connection, and who listens to what on it.

#include "engine/seam.hpp"
#include "messaging/feed.hpp"
#include "messaging/prober.hpp"
#include "messaging/timed_messages.hpp"

#include <tenantry/client.hpp>
#include <tenantry/feed_events.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tenantry::detail {

/// A channel, pattern or shard channel and its listeners, of which the server knows one.
struct topic {
  push_kind kind = push_kind::channel;
  std::string name;
  tenant_id tenant;
  std::vector<feed*> feeds;
};

/// Messages go from the connection into the queues of listeners on the I/O thread, which waits for none of them.
///
/// Threads: all members from any thread.
class topic_hub : public std::enable_shared_from_this<topic_hub> {
 public:
  topic_hub(const client& redis, const subscriber_options& how, std::shared_ptr<histogram_recorder> times);
  topic_hub(const topic_hub&) = delete;
  topic_hub& operator=(const topic_hub&) = delete;
  ~topic_hub() = default;

  /// From now on it is told of everything, until `leave`.
  void join(feed& one, push_kind kind, const std::string& name, const tenant_id& tenant);
  void leave(feed& one) noexcept;
  /// Closes all listeners and the connection. Idempotent; not on the I/O thread. In the child of a fork: closes the
  /// descriptor, and leaves the rest as it is.
  void stop();

  void add_to(subscriber_counters& all) const;
  [[nodiscard]] const client& redis() const noexcept { return redis_; }
  /// False when the client is gone, which subscriptions may outlive.
  [[nodiscard]] bool has_client() const noexcept { return !life_.expired(); }
  /// How long messages of this hub, and of others of its subscriber, waited to be taken.
  [[nodiscard]] histogram_recorder& times() const noexcept { return *times_; }
  /// True in the child of a fork, where no thread delivers, and the parent's locks may be held for ever.
  [[nodiscard]] bool forked() const noexcept { return fork_count() != forks_; }
  /// Why there is no connection, in words; empty where that is not known.
  [[nodiscard]] std::string trouble() const;

 private:
  using topics = std::unordered_map<std::string, std::unique_ptr<topic>>;
  using clock = std::chrono::steady_clock;

  /// For the observer, who is told without the lock.
  struct report {
    std::string_view name;
    std::string tenant = {};
    std::string channel = {};
    std::uint64_t count = 0;
    gap_cause cause = gap_cause::connection_lost;
    std::chrono::milliseconds span{0};
  };
  using reports = std::vector<report>;

  void open();
  void told(push_event& what);
  void take(push::message& what, reports& later);
  void confirm(push_kind kind, const std::string& name, reports& later);
  void refuse(push_kind kind, const std::string& name, const std::string& text, reports& later);
  static void begin_outage(topic& of, gap_cause cause);
  void remove(feed& one, reports& later) noexcept;
  void note_end(const feed& one, const topic& of, reports& later) const;
  void tell(const reports& all) const noexcept;
  [[nodiscard]] topic* find(push_kind kind, const std::string& name);

  const client& redis_;
  const std::weak_ptr<const void> life_ = seam::life(redis_);
  const push_options how_;
  const std::shared_ptr<histogram_recorder> times_;
  const std::uint64_t forks_ = fork_count();
  std::shared_ptr<topic_hub> kept_;  // itself, in the child of a fork
  mutable std::mutex mutex_;
  std::array<topics, 3> topics_;    // by kind
  std::shared_ptr<prober> prober_;  // where it is probed
  std::unique_ptr<push_connection> connection_;
  bool stopped_ = false;
  timed_messages timed_;
  std::uint64_t outages_ = 0;
  std::uint64_t messages_ = 0;
  std::uint64_t deliveries_ = 0;
  std::uint64_t foreign_ = 0;
  std::uint64_t subscriptions_ = 0;
  std::uint64_t dropped_ = 0;  // not reported yet
  clock::time_point next_lagged_report_{};
};

}  // namespace tenantry::detail
