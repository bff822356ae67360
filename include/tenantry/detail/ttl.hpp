#pragma once
// Times to live, spread so that values stored together do not expire together.

#include <tenantry/export.hpp>

#include <algorithm>
#include <chrono>

namespace tenantry::detail {

/// `ttl` shortened by up to the fraction `jitter`; `unit` is from 0 to 1. Never longer than `ttl`, never below 1 ms.
[[nodiscard]] constexpr std::chrono::milliseconds jittered(std::chrono::milliseconds ttl, double jitter,
                                                           double unit) noexcept {
  const auto cut = static_cast<std::chrono::milliseconds::rep>(static_cast<double>(ttl.count()) * jitter * unit);
  return std::max(ttl - std::chrono::milliseconds{cut}, std::chrono::milliseconds{1});
}

/// A random number from 0 to 1, of the calling thread's own generator.
TENANTRY_EXPORT double random_unit();

}  // namespace tenantry::detail
