#pragma once
// Portfolios made up from a fixed seed, and what is known about them without asking the database.

#include "portfolio.hpp"

#include <tenantry/tenant.hpp>

#include <cstdint>
#include <vector>

namespace buildings {

/// A tenant, with the figures that were counted while its rows were made up.
struct tenant_portfolio {
  tenantry::tenant_id tenant;
  portfolio_kpi counted;
  std::int64_t reporting_installation = 0;  ///< that of `counted.latest_meter`; 0 when no meter reported
};

/// All rows, the deleted and removed ones too.
struct portfolio_size {
  std::int64_t properties = 0;
  std::int64_t units = 0;
  std::int64_t installations = 0;
  std::int64_t readings = 0;
};

struct generated_portfolios {
  std::vector<tenant_portfolio> tenants;
  portfolio_size size;
};

/// Fills an empty database with the portfolios of 20 tenants. The same on every machine and in every run.
[[nodiscard]] generated_portfolios generate(portfolio_database& into);

}  // namespace buildings
