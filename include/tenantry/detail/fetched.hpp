#pragma once
// What a fetch gives, before its value has a type.

#include <tenantry/error.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>

namespace tenantry {

/// Where a fetched value came from.
enum class source : unsigned char {
  computed,  ///< the loader ran, in this call or in one that this call waited for
  redis,     ///< it was in Redis
  stale,     ///< it was in Redis, beyond its ttl or expired, and could not be loaded anew
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

}  // namespace detail
}  // namespace tenantry
