#pragma once
// The push connection that the caches of a client share.

#include "engine/seam.hpp"

#include <tenantry/client.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace tenantry::detail {

/// One for all caches of a client: lease wake-ups and the invalidations of near caches. The connection is opened by the
/// first who joins.
///
/// - Who has joined is told every event, one after the other, as push_connection says. What was told before is not
///   repeated.
/// - While invalidations are heard, the connection is subscribed to them and its heartbeat is `near_heartbeat`.
///
/// Threads: all members from any thread.
class cache_pushes {
 public:
  /// A server whose silence is longer is not trusted by near caches. Coherence is worth a PING each second.
  static constexpr push_options near_heartbeat{.heartbeat = std::chrono::seconds{1},
                                               .heartbeat_timeout = std::chrono::seconds{2}};

  class listener {
   public:
    virtual void told(const push_event& what) = 0;

   protected:
    ~listener() = default;
  };
  enum class hears : unsigned char { wakeups, invalidations };

  /// Being told, as long as it lives: not after its destructor, which waits for an event that is just being told.
  /// Errors: std::system_error when the I/O thread cannot be started.
  /// Lifetime: ends neither in `told` of its listener nor after the connection.
  class member {
   public:
    member(cache_pushes& of, listener& who, hears what) : of_{of}, who_{who}, what_{what} { of_.join(who, what); }
    ~member() { of_.leave(who_, what_); }
    member(const member&) = delete;
    member& operator=(const member&) = delete;

   private:
    cache_pushes& of_;
    listener& who_;
    const hears what_;
  };

  explicit cache_pushes(const client& redis);
  ~cache_pushes();
  cache_pushes(const cache_pushes&) = delete;
  cache_pushes& operator=(const cache_pushes&) = delete;

  /// The one of this client. Not while another shared part of it is made.
  static std::shared_ptr<cache_pushes> of(const client& redis);

  /// For members.
  [[nodiscard]] push_connection& connection() const noexcept { return *connection_; }
  /// True where a tracked lane was lost since the connection was begun: the address may lead to another server by now.
  [[nodiscard]] bool outlived_a_lane() const noexcept {
    return lost_lanes_.load(std::memory_order_acquire) != lanes_lost_before_.load(std::memory_order_acquire);
  }

 private:
  void join(listener& one, hears what);
  void leave(listener& one, hears what) noexcept;
  void told(const push_event& what);

  const client& redis_;
  const std::atomic<std::uint64_t>& lost_lanes_;
  std::atomic<std::uint64_t> lanes_lost_before_ = 0;  // the present connection began
  std::atomic<const listener*> telling_ = nullptr;

  std::mutex mutex_;
  std::vector<listener*> listeners_;  // places, of which those that were left are empty
  std::size_t hear_invalidations_ = 0;
  std::unique_ptr<push_connection> connection_;  // stays when it is there: listeners use it
};

}  // namespace tenantry::detail
