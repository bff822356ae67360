#pragma once
// How long stamps are kept.

#include <algorithm>
#include <chrono>

namespace tenantry::detail {

/// For a value of this life: twice as long, and a day at least, so that stamps in use are always there and those of
/// tenants who left go. A stamp that is gone costs a load and nothing else.
[[nodiscard]] constexpr std::chrono::milliseconds stamp_life(
    std::chrono::milliseconds value_life = std::chrono::milliseconds{0}) noexcept {
  return std::max<std::chrono::milliseconds>(2 * value_life, std::chrono::hours{24});
}

}  // namespace tenantry::detail
