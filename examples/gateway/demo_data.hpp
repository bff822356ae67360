#pragma once
// Tenants, buildings and meters to try the gateway with. Always the same ones.

#include "support/sqlite.hpp"

#include <tenantry/tenant.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

namespace gateway {

/// acme, globex, initech, tenant-4, tenant-5, ...
std::vector<tenantry::tenant_id> demo_tenants(int number);

/// 8 properties, about 60 units and 100 meters behind 6 gateways, a reading a day and meter of the 365 days before
/// `now`, and a settlement for each property and year. Inside of the caller's transaction.
void write_demo_data(const sqlite::connection& into, std::string_view tenant, std::int64_t now);

}  // namespace gateway
