#pragma once
// The database of the gateway: properties, units, meters and what they report.

#include "schemas.hpp"

#include <tenantry/tenant.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gateway {

/// What one meter reported at one moment.
struct reading {
  std::string meter;
  std::int64_t at = 0;  // Unix time in seconds
  std::int64_t watt_hours = 0;
};

struct settlement {
  std::string id;
  std::string property;
  int year = 0;
  double kwh = 0;
};

/// One SQLite file, which several processes may share.
///
/// Threads: all members from any thread; each call has a connection of its own, of a few that are kept.
/// Errors:  std::runtime_error with SQLite's words.
class store {
 public:
  /// Makes the tables where they are missing.
  explicit store(const std::string& file);
  ~store();
  store(const store&) = delete;
  store& operator=(const store&) = delete;

  /// Properties, units, meters, settlements and readings of the last 12 months, where the tenant has none yet. Always
  /// the same ones.
  void fill_with_demo_data(const tenantry::tenant_id& tenant, std::int64_t now);

  /// One query.
  [[nodiscard]] kpi portfolio(const tenantry::tenant_id& tenant, std::int64_t now) const;
  /// Nothing where the tenant has no such unit.
  [[nodiscard]] std::optional<month> readings(const tenantry::tenant_id& tenant, std::string_view unit, int year,
                                              int month) const;
  [[nodiscard]] std::optional<settlement> find_settlement(const tenantry::tenant_id& tenant, std::string_view id) const;
  [[nodiscard]] std::vector<std::string> units(const tenantry::tenant_id& tenant, int at_most) const;
  [[nodiscard]] std::vector<std::string> settlements(const tenantry::tenant_id& tenant, int at_most) const;
  [[nodiscard]] std::vector<std::string> gateways(const tenantry::tenant_id& tenant) const;
  /// The meters of a gateway with what each of them reported last; where it never did, 0 at 0.
  [[nodiscard]] std::vector<reading> latest(const tenantry::tenant_id& tenant, std::string_view gateway) const;
  [[nodiscard]] bool has_tenant(const tenantry::tenant_id& tenant) const;
  [[nodiscard]] bool has_gateway(const tenantry::tenant_id& tenant, std::string_view gateway) const;

  /// The property's id. Its units are named after it: u-61-1, u-61-2, ...
  std::int64_t add_property(const tenantry::tenant_id& tenant, std::string_view name, int units);

  /// What one gateway reported.
  struct batch {
    tenantry::tenant_id tenant;
    std::string gateway;
    std::span<const reading> readings;
  };
  struct added {
    std::int64_t new_readings = 0;  // those that were not there before
    std::int64_t duplicates = 0;
    std::int64_t refused = 0;  // of meters that the tenant does not have behind this gateway
  };
  /// In one transaction, committed when it returns. What it did, batch by batch.
  std::vector<added> add(std::span<const batch> all);
  added add(const tenantry::tenant_id& tenant, std::string_view gateway, std::span<const reading> readings);

  /// How often the database was asked for figures: portfolio, readings, find_settlement.
  [[nodiscard]] std::uint64_t queries() const noexcept;

 private:
  class session;
  class pool;
  std::unique_ptr<pool> pool_;
};

}  // namespace gateway
