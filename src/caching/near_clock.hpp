#pragma once
// A clock that costs nothing, for what is looked at in every hit.

#include <chrono>
#include <cstdint>
#include <ctime>

namespace tenantry::detail {

/// Nanoseconds of the steady clock.
[[nodiscard]] inline std::int64_t exact_now() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// The same, but behind it by up to `coarse_step`: 3 ns instead of 20. Source: clock_gettime(2), Linux.
[[nodiscard]] inline std::int64_t coarse_now() noexcept {
#ifdef CLOCK_MONOTONIC_COARSE
  std::timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
#else
  return exact_now();
#endif
}

/// A tick of the kernel, which is 10 ms at most.
inline constexpr std::int64_t coarse_step = 10'000'000;

}  // namespace tenantry::detail
