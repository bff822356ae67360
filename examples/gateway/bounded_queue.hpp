#pragma once
// Hands things from one thread to another, and makes the first one wait rather than the memory grow.

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace gateway {

template <class T>
class bounded_queue {
 public:
  explicit bounded_queue(std::size_t capacity) : capacity_{capacity} {}

  /// Waits while it is full. False where it is closed: then `one` is not in it.
  bool push(T one) {
    {
      std::unique_lock held{mutex_};
      room_.wait(held, [this] { return closed_ || all_.size() < capacity_; });
      if (closed_) return false;
      all_.push_back(std::move(one));
    }
    filled_.notify_one();
    return true;
  }

  /// What is there, at most so many; waits for the first one until `limit`, or until it is closed.
  std::vector<T> take(std::size_t at_most, std::chrono::steady_clock::time_point limit) {
    std::vector<T> taken;
    {
      std::unique_lock held{mutex_};
      filled_.wait_until(held, limit, [this] { return closed_ || !all_.empty(); });
      while (!all_.empty() && taken.size() < at_most) {
        taken.push_back(std::move(all_.front()));
        all_.pop_front();
      }
    }
    room_.notify_all();
    return taken;
  }

  /// Nothing goes in any more; what is in it can still be taken.
  void close() noexcept {
    {
      const std::lock_guard held{mutex_};
      closed_ = true;
    }
    room_.notify_all();
    filled_.notify_all();
  }
  [[nodiscard]] bool closed() const noexcept {
    const std::lock_guard held{mutex_};
    return closed_;
  }
  /// It is closed, and nothing is in it.
  [[nodiscard]] bool drained() const noexcept {
    const std::lock_guard held{mutex_};
    return closed_ && all_.empty();
  }

 private:
  std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable filled_;
  std::deque<T> all_;
  bool closed_ = false;
};

}  // namespace gateway
