#pragma once
// Threads in tests: started, held at a known place, and never waited for without an end.

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

namespace support {

/// Runs a function on a thread of its own. The result, or what it threw, comes from the future.
template <typename Function>
auto on_thread(Function&& function) {
  return std::async(std::launch::async, std::forward<Function>(function));
}

/// What a call threw; null where it threw nothing.
template <typename Function>
std::exception_ptr thrown_by(Function&& function) {
  try {
    (void)function();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

/// Holds threads until it is opened.
class gate {
 public:
  void open() {
    {
      const std::lock_guard held{mutex_};
      open_ = true;
    }
    opened_.notify_all();
  }
  /// False where nobody opened it within 20 s.
  bool wait() {
    std::unique_lock held{mutex_};
    return opened_.wait_for(held, std::chrono::seconds{20}, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

/// Opens a gate at the end of its scope, also when an assertion ends the test, so that no thread is left waiting.
class opens_at_end {
 public:
  explicit opens_at_end(gate& which) : gate_{&which} {}
  opens_at_end(const opens_at_end&) = delete;
  opens_at_end& operator=(const opens_at_end&) = delete;
  ~opens_at_end() { gate_->open(); }

 private:
  gate* gate_;
};

/// Aborts the program where its scope does not end in time: a test that hangs fails, and says so.
class must_end {
 public:
  explicit must_end(std::chrono::seconds limit = std::chrono::seconds{45})
      : watcher_{[this, limit] {
          std::unique_lock held{mutex_};
          if (ended_early_.wait_for(held, limit, [this] { return ended_; })) return;
          std::fprintf(stderr, "the test hangs: not over after %lld s\n", static_cast<long long>(limit.count()));
          std::abort();
        }} {}
  must_end(const must_end&) = delete;
  must_end& operator=(const must_end&) = delete;
  ~must_end() {
    {
      const std::lock_guard held{mutex_};
      ended_ = true;
    }
    ended_early_.notify_all();
    watcher_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_early_;
  bool ended_ = false;
  std::thread watcher_;  // last: it uses the others
};

}  // namespace support
