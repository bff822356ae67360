#pragma once
// Where a thread sleeps until another one needs it.

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#ifdef __linux__
#include <atomic>
#else
#include <condition_variable>
#include <mutex>
#endif

namespace tenantry::detail {

/// A wake-up may come late, for the thread that used the parker before: whoever wakes looks again at what it waits for.
class parker {
 public:
  /// To be called before the thread tells others that it is going to sleep.
  void prepare() noexcept;
  /// Sleeps until `wake`, or the deadline; also for no reason.
  void sleep(std::chrono::steady_clock::time_point deadline) noexcept;
  void wake() noexcept;

 private:
#ifdef __linux__
  std::atomic<std::uint32_t> awake_ = 0;
#else
  std::mutex mutex_;
  std::condition_variable changed_;
  bool awake_ = false;
#endif
};

/// Parkers on loan. They live as long as the pool, so that waking one is harmless at any time. Not thread-safe.
class parker_pool {
 public:
  parker& take();
  void give_back(parker& one) noexcept { free_.push_back(&one); }

 private:
  std::vector<std::unique_ptr<parker>> all_;
  std::vector<parker*> free_;  // has room for all
};

}  // namespace tenantry::detail
