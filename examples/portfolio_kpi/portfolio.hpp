#pragma once
// The portfolio of properties that a tenant manages, and the figures that its dashboard shows.

#include "support/sqlite.hpp"

#include <tenantry/tenant.hpp>

#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace buildings {

/// What one meter reported at one moment.
struct reading {
  std::int64_t installation = 0;
  std::chrono::sys_seconds at;
  std::int64_t watt_hours = 0;
};

/// What the dashboard of a tenant shows.
struct portfolio_kpi {
  std::int64_t property_count = 0;
  std::int64_t unit_count = 0;
  std::int64_t installation_count = 0;
  std::string latest_meter;            ///< serial number; empty when no meter reported in the last 48 hours
  std::int64_t latest_reading_at = 0;  ///< Unix time in seconds
  std::int64_t latest_reading_watt_hours = 0;

  friend bool operator==(const portfolio_kpi&, const portfolio_kpi&) = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(portfolio_kpi, property_count, unit_count, installation_count, latest_meter,
                                   latest_reading_at, latest_reading_watt_hours)

/// A property (a building) has units (flats, shops), a unit has meter installations, an installation has readings.
/// Properties and units are deleted softly and an exchanged meter is removed; the rows stay, with a date.
///
/// Threads: safe. As in a real service, callers share a few connections and wait when all of them are busy.
class portfolio_database {
 public:
  /// The clock of the data: the KPIs of the same data are the same on every day that the example runs.
  static constexpr std::chrono::sys_seconds now =
      std::chrono::sys_days{std::chrono::year{2026} / 3 / 1} + std::chrono::hours{12};
  static constexpr std::chrono::hours latest_within{48};

  /// An empty database with its tables.
  portfolio_database();
  ~portfolio_database();

  /// The live properties, units and installations of a tenant, and its latest reading: one query.
  [[nodiscard]] portfolio_kpi kpi_of(const tenantry::tenant_id& tenant);

  /// Writes a reading; it is committed when this returns.
  void add(const reading& one);

  /// How often `kpi_of` was called.
  [[nodiscard]] std::uint64_t queries() const noexcept { return queries_.load(std::memory_order_relaxed); }

  /// For writing the whole data set at once, before anybody else uses the database.
  [[nodiscard]] const sqlite::connection& for_loading() const noexcept { return first_; }

 private:
  struct session;
  class borrowed;

  sqlite::connection first_;  // keeps the database alive
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<session>> idle_;
  std::atomic<std::uint64_t> queries_ = 0;
};

}  // namespace buildings
