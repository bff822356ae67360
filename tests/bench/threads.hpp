#pragma once
// Many threads that do the same thing, for rows of concurrency.

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

/// A team of threads that exists as long as its row, so that starting threads is not measured.
class team {
 public:
  /// `work` is done `times` times by each round, shared out among the threads.
  team(unsigned threads, std::function<void()> work) : work_{std::move(work)}, gate_{threads + 1} {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { serve(); });
  }
  ~team() {
    left_ = stopped;
    gate_.arrive_and_wait();
    for (std::thread& each : threads_) each.join();
  }
  team(const team&) = delete;
  team& operator=(const team&) = delete;

  void run(std::size_t times) {
    left_ = static_cast<std::ptrdiff_t>(times);
    gate_.arrive_and_wait();
    gate_.arrive_and_wait();
  }

  /// Measures each piece of work from now on, for `take_latencies`.
  void measure_latencies() { measured_ = true; }
  std::vector<float> take_latencies() {
    const std::lock_guard lock{mutex_};
    return std::exchange(latencies_, {});
  }

 private:
  static constexpr std::ptrdiff_t stopped = -1'000'000'000'000;

  void serve() {
    std::vector<float> own;
    for (;;) {
      gate_.arrive_and_wait();
      if (left_ == stopped) return;
      while (left_.fetch_sub(1, std::memory_order_relaxed) > 0) {
        if (!measured_) {
          work_();
          continue;
        }
        const auto begin = std::chrono::steady_clock::now();
        work_();
        own.push_back(std::chrono::duration<float, std::micro>(std::chrono::steady_clock::now() - begin).count());
      }
      if (measured_) {
        const std::lock_guard lock{mutex_};
        latencies_.insert(latencies_.end(), own.begin(), own.end());
        own.clear();
      }
      gate_.arrive_and_wait();
    }
  }

  std::function<void()> work_;
  std::barrier<> gate_;
  std::atomic<std::ptrdiff_t> left_ = 0;
  bool measured_ = false;
  std::mutex mutex_;
  std::vector<float> latencies_;
  std::vector<std::thread> threads_;
};

}  // namespace bench
