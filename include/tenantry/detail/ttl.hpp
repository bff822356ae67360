#pragma once
// Times to live, spread so that values stored together do not expire together.

#include <tenantry/export.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace tenantry::detail {

/// `ttl` shortened by up to the fraction `jitter`; `unit` is from 0 to 1. Never longer than `ttl`, never below 1 ms.
[[nodiscard]] constexpr std::chrono::milliseconds jittered(std::chrono::milliseconds ttl, double jitter,
                                                           double unit) noexcept {
  const auto cut = static_cast<std::chrono::milliseconds::rep>(static_cast<double>(ttl.count()) * jitter * unit);
  return std::max(ttl - std::chrono::milliseconds{cut}, std::chrono::milliseconds{1});
}

/// How long before its end a value is to be loaded anew, in ms, for one that took so long to load (XFetch, "Optimal
/// Probabilistic Cache Stampede Prevention", 2015). `unit` is from 0 to below 1: with beta 1 the time left is less than
/// that with the probability exp(-left / took).
[[nodiscard]] inline double early_margin(std::chrono::microseconds took, double beta, double unit) noexcept {
  return -std::log(1.0 - unit) * beta * static_cast<double>(took.count()) / 1000.0;
}

/// A random number from 0 to 1, of the calling thread's own generator.
TENANTRY_EXPORT double random_unit();

}  // namespace tenantry::detail
