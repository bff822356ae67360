#pragma once
// Invalidations that Redis could not be told yet.

#include "caching/request.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/key.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace tenantry::detail {

/// An invalidation: what it concerns, and how Redis is told.
///
/// Telling it twice does no harm, as long as no stamp is sent twice: what was loaded under the first would come back
/// when the second arrives after another invalidation. So the requests are made anew each time.
struct invalidation {
  tenant_id tenant;
  std::string key;                   // nothing where it concerns all of the tenant
  std::string name;                  // a later one of the same name stands for both
  std::vector<std::string> written;  // the names in Redis whose readers have to notice
  std::function<std::vector<request>()> requests;
};

/// One for all caches and invalidators of a client. Its work is done on the client's I/O thread, while there is any.
///
/// Threads: all members from any thread.
class invalidation_queue : public std::enable_shared_from_this<invalidation_queue> {
 public:
  static constexpr std::size_t most = 10'000;

  explicit invalidation_queue(const client& redis) : redis_{redis} {}
  static std::shared_ptr<invalidation_queue> of(const client& redis);

  /// False when it is full, and when no thread can be started to deliver it: then it stays, but is tried with the next
  /// one only. `why` it could not be delivered is told to the observer. Errors: closed, forked.
  bool add(invalidation what, const error& why);
  /// The number of the last one that concerns this key; 0 when there is none.
  [[nodiscard]] std::uint64_t concerning(const key& k) const { return size() == 0 ? 0 : find(k); }
  [[nodiscard]] std::size_t size() const noexcept { return size_.load(std::memory_order_acquire); }

  /// To be called when an invalidation is done. (`add` does it for those that are queued.)
  void note(const invalidation& what) noexcept;
  /// Another number after each invalidation that concerns this key, so that nobody joins a load from before.
  [[nodiscard]] std::uint64_t changes(const key& k) const noexcept;

 private:
  struct entry {
    invalidation what;
    std::uint64_t number = 0;
  };
  struct batch;

  /// False when that cannot be, and the entry of this number still waits.
  bool begin(std::uint64_t number) noexcept;
  static task<void> work(std::shared_ptr<invalidation_queue> self);
  [[nodiscard]] std::uint64_t find(const key& k) const;
  [[nodiscard]] batch first() const;
  /// True when some need not be tried again.
  bool settle(const batch& sent, const std::vector<reply>& replies);

  const client& redis_;
  mutable std::mutex mutex_;
  std::atomic<std::size_t> size_ = 0;
  std::deque<entry> waiting_;
  std::uint64_t last_ = 0;
  bool working_ = false;

  // By hash: it does no harm that some keys and tenants share a place.
  std::array<std::atomic<std::uint64_t>, 64> changes_{};
};

}  // namespace tenantry::detail
