#pragma once
// Messages that wake who waits for the lease of another process.

#include "caching/cache_pushes.hpp"
#include "engine/seam.hpp"

#include <tenantry/client.hpp>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// One for all caches of a client. The first wait needs the push connection, and opens it where it is not there.
///
/// Threads: all members from any thread.
class wakeups final : public cache_pushes::listener {
 public:
  wakeups(const client& redis, std::shared_ptr<cache_pushes> pushes) : redis_{redis}, pushes_{std::move(pushes)} {}
  wakeups(const wakeups&) = delete;
  wakeups& operator=(const wakeups&) = delete;

  /// The one of this client.
  static std::shared_ptr<wakeups> of(const client& redis);

  /// Somebody who waits for messages of a channel. It is woken by each, and by whatever may have made it miss one: when
  /// its subscription begins, is refused, and when the connection is lost.
  class waiter {
   public:
    waiter(std::shared_ptr<wakeups> hub, std::string channel);
    ~waiter();
    waiter(const waiter&) = delete;
    waiter& operator=(const waiter&) = delete;

    /// True when it was woken since the last time.
    bool wait_until(std::chrono::steady_clock::time_point limit);
    /// For coroutines: triggered when it is woken, also if that has happened since the last time.
    std::stop_token next_wakeup();

   private:
    friend class wakeups;
    void wake();

    std::shared_ptr<wakeups> hub_;
    const std::string channel_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool woken_ = false;
    std::stop_source next_;
  };

 private:
  void join(waiter& one);
  void leave(waiter& one) noexcept;
  void told(const push_event& what) override;
  void wake(const std::string& channel);
  void wake_all();

  const client& redis_;
  std::mutex mutex_;
  std::unordered_map<std::string, std::vector<waiter*>> waiting_;
  const std::shared_ptr<cache_pushes> pushes_;
  std::optional<cache_pushes::member> joined_;  // the last: `told` uses the others
};

}  // namespace tenantry::detail
