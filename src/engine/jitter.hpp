#pragma once
// Random delays, so that many clients do not come back at the same moment.

#include <algorithm>
#include <chrono>

namespace tenantry::detail {

/// From `low` to `high`, both included, as `random01` in [0, 1) says.
inline std::chrono::milliseconds between(std::chrono::milliseconds low, std::chrono::milliseconds high,
                                         double random01) noexcept {
  const double width = static_cast<double>((high - low).count() + 1);
  return std::min(high, low + std::chrono::milliseconds{static_cast<std::chrono::milliseconds::rep>(random01 * width)});
}

/// `first` doubled `times` times, at most `most`.
inline std::chrono::milliseconds doubled(std::chrono::milliseconds first, int times,
                                         std::chrono::milliseconds most) noexcept {
  for (; times > 0 && first < most; --times) first += std::min(first, most - first);
  return std::min(first, most);
}

}  // namespace tenantry::detail
