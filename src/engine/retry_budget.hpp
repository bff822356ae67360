#pragma once
// Keeps retries from doubling an overload.

#include <atomic>
#include <cstdint>

namespace tenantry::detail {

/// Retries are at most a tenth of the first tries, and `burst` more.
///
/// Threads: all members from any thread, without locks. A full budget is only read by `earned`.
class retry_budget {
 public:
  explicit retry_budget(std::int64_t burst = 10) noexcept : most_{burst * price}, tokens_{most_} {}

  /// For each call that is made for the first time.
  void earned() noexcept {
    // Threads that pass the check together save a few tokens too many, but all of them are earned.
    if (tokens_.load(std::memory_order_relaxed) < most_) tokens_.fetch_add(1, std::memory_order_relaxed);
  }

  /// True when a retry may be made; it is paid for then.
  [[nodiscard]] bool take() noexcept {
    std::int64_t left = tokens_.load(std::memory_order_relaxed);
    while (left >= price) {
      if (tokens_.compare_exchange_weak(left, left - price, std::memory_order_relaxed)) return true;
    }
    return false;
  }

 private:
  static constexpr std::int64_t price = 10;  // first tries for one retry

  const std::int64_t most_;
  std::atomic<std::int64_t> tokens_;
};

}  // namespace tenantry::detail
