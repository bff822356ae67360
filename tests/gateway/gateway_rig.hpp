#pragma once
// What tests of the gateway's parts share.

#include "support/temporary_directory.hpp"

#include <tenantry/tenant.hpp>

#include <cstdint>

namespace gateway::testing {

inline const tenantry::tenant_id acme{"acme"};
inline const tenantry::tenant_id globex{"globex"};

/// 2026-03-01 12:00 UTC.
inline constexpr std::int64_t noon = 1'772'366'400;

using support::temporary_directory;

}  // namespace gateway::testing
