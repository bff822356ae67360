#pragma once
// What a fetch gives, before its value has a type.

#include <tenantry/detail/near_pin.hpp>
#include <tenantry/error.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

namespace tenantry {

/// Where a fetched value came from.
enum class source : unsigned char {
  computed,  ///< the loader ran, in this call or in one that this call waited for
  redis,     ///< it was in Redis
  stale,     ///< it was in Redis, beyond its ttl or expired, and could not be loaded anew
  near,      ///< it was in the memory of this process, where it had come from Redis
};

/// The enumerator's name, for logs: "redis".
constexpr std::string_view to_string(source from) noexcept {
  switch (from) {
    case source::computed:
      return "computed";
    case source::redis:
      return "redis";
    case source::stale:
      return "stale";
    case source::near:
      return "near";
  }
  return "unknown";
}

namespace detail {

struct fetched {
  std::shared_ptr<const void> value = {};  // nothing where it is absent
  source from = source::redis;
  bool stored = false;
  std::optional<std::chrono::microseconds> computed_at = {};  // since 1970
  std::shared_ptr<const error> failure = {};
};

/// What a near cache gives: an entry that stays where it is, or where no pin was free, a share of its value.
struct near_hit {
  bool found = false;
  const std::shared_ptr<const void>* held = nullptr;  // in the entry, while it is pinned
  near_pin pin = {};
  std::shared_ptr<const void> share = {};  // without a pin
  std::int64_t computed_at = 0;            // in us since 1970; 0: not known
};

}  // namespace detail
}  // namespace tenantry
