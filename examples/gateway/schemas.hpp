#pragma once
// What the gateway keeps in Redis: its keys, its channel, and the types of their values.

#include <tenantry/channel.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/tag.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gateway {

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;
inline constexpr tenantry::key_schema<"health:{tenant}:gateway:{gateway}"> gateway_health;
inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading_monthly;
inline constexpr tenantry::key_schema<"pdf:{tenant}:settlement:{settlement}"> settlement_pdf;
inline constexpr tenantry::channel_schema<"alarms:{tenant}"> alarms;

/// What readings change.
inline constexpr std::string_view kpi_tag = "kpi";

/// What the dashboard of a tenant shows.
struct kpi {
  std::int64_t properties = 0;
  std::int64_t units = 0;
  std::int64_t meters = 0;
  std::int64_t readings_today = 0;
  double kwh_today = 0;
  std::string latest_meter;    // empty: none
  std::int64_t latest_at = 0;  // Unix time in seconds
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, properties, units, meters, readings_today, kwh_today, latest_meter, latest_at)

struct day {
  int day = 1;
  double kwh = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(day, day, kwh)

/// What a unit used in a month.
struct month {
  std::string unit;
  int year = 0;
  int month = 0;
  std::vector<day> days;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(month, unit, year, month, days)

/// What was last heard of a gateway.
struct health {
  std::string gateway;
  std::int64_t last_seen = 0;  // Unix time in seconds
  std::int64_t readings = 0;   // of its last message
  std::string firmware;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(health, gateway, last_seen, readings, firmware)

/// An alarm of a gateway.
struct alarm {
  std::string id;  // of the gateway's; unique within the tenant
  std::string gateway;
  std::string severity;  // info, warning, critical
  std::string text;
  std::int64_t at = 0;  // Unix time in milliseconds
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(alarm, id, gateway, severity, text, at)

}  // namespace gateway
