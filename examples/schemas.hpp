#pragma once
// The keys and channels of the examples: one place where an application says what its names in Redis look like.

#include <tenantry/channel.hpp>
#include <tenantry/key_schema.hpp>

namespace schemas {

/// The dashboard's figures of a tenant's whole portfolio: `kpi:acme:portfolio`.
inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

/// When a gateway was last heard of, and how it was: `health:acme:gateway:gw-7`.
inline constexpr tenantry::key_schema<"health:{tenant}:gateway:{gateway}"> gateway_health;

/// The readings of a unit in one month: `readings:acme:monthly:u1:2026:03`.
inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading_monthly;

/// The rendered document of a settlement: `pdf:acme:settlement:s9`.
inline constexpr tenantry::key_schema<"pdf:{tenant}:settlement:{settlement}"> settlement_pdf;

/// Alarms of a tenant, as they happen: `alarms:acme`.
inline constexpr tenantry::channel_schema<"alarms:{tenant}"> alarms;

}  // namespace schemas
