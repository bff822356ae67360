#pragma once
// A part of a client that exists from its first use on.

#include <atomic>
#include <memory>
#include <mutex>

namespace tenantry::detail {

/// Threads: `open` and `get` from any thread.
template <class T>
class opened_later {
 public:
  /// Makes it once, by `make() -> std::unique_ptr<T>`, which may throw.
  template <class Make>
  T& open(Make&& make) {
    if (T* there = there_.load(std::memory_order_acquire)) return *there;
    const std::lock_guard lock{mutex_};
    if (!owned_) {
      owned_ = make();
      there_.store(owned_.get(), std::memory_order_release);
    }
    return *owned_;
  }

  /// Nothing where it was never opened.
  [[nodiscard]] T* get() const noexcept { return there_.load(std::memory_order_acquire); }

  void reset() noexcept {
    there_ = nullptr;
    owned_.reset();
  }
  /// Forgets it without destroying it.
  void leak() noexcept { static_cast<void>(owned_.release()); }

 private:
  std::atomic<T*> there_ = nullptr;
  std::mutex mutex_;
  std::unique_ptr<T> owned_;
};

}  // namespace tenantry::detail
