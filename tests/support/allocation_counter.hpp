#pragma once
// Counts the allocations of one thread, to hold the library to the costs that its headers promise, and lets one fail.

#include <cstddef>

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define TENANTRY_TEST_FIXED_NEW  // the runtime of clang brings its own operators, which cannot be replaced
#endif
#endif

namespace support {

/// Counts what its thread allocates by operator new while it lives.
///
/// Link allocation_counter.cpp, which replaces the global operators of the whole executable.
class allocation_counter {
 public:
  /// False where nothing is counted.
#ifdef TENANTRY_TEST_FIXED_NEW
  static constexpr bool works = false;
#else
  static constexpr bool works = true;
#endif

  allocation_counter() noexcept : before_{total()}, live_before_{live()}, peak_around_{exchange_peak(live_before_)} {}
  allocation_counter(const allocation_counter&) = delete;
  allocation_counter& operator=(const allocation_counter&) = delete;
  ~allocation_counter() {
    if (peak() < peak_around_) exchange_peak(peak_around_);
  }

  [[nodiscard]] std::size_t count() const noexcept { return total() - before_; }
  /// The most memory that its thread held at a time beyond what it held at the beginning.
  [[nodiscard]] std::size_t peak_bytes() const noexcept { return static_cast<std::size_t>(peak() - live_before_); }

 private:
  [[nodiscard]] static std::size_t total() noexcept;
  [[nodiscard]] static std::ptrdiff_t live() noexcept;
  [[nodiscard]] static std::ptrdiff_t peak() noexcept;
  static std::ptrdiff_t exchange_peak(std::ptrdiff_t bytes) noexcept;

  std::size_t before_;
  std::ptrdiff_t live_before_;
  std::ptrdiff_t peak_around_;
};

/// While it lives, one allocation of its thread by operator new fails: the n-th from now on. One at a time.
class allocation_failure {
 public:
  /// False where none fails.
  static constexpr bool works = allocation_counter::works;

  explicit allocation_failure(std::size_t n) noexcept;
  allocation_failure(const allocation_failure&) = delete;
  allocation_failure& operator=(const allocation_failure&) = delete;
  ~allocation_failure();

  /// False when there were fewer.
  [[nodiscard]] static bool came() noexcept;
};

}  // namespace support
