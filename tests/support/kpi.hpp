#pragma once
// What tests of the cache keep in it, and under which keys.

#include <tenantry/json_codec.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/tenant.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace support {

struct kpi {
  int property_count = 0;
  std::string unit = {};

  friend bool operator==(const kpi&, const kpi&) = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, property_count, unit)

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;
inline constexpr tenantry::key_schema<"health:{tenant}:gateway:{gateway}"> gateway_health;
inline const tenantry::tenant_id acme{"acme"};

/// An exception that is no std::exception.
struct odd_fault {
  int code;
};

}  // namespace support
