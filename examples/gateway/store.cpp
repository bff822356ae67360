#include "store.hpp"

#include "demo_data.hpp"
#include "support/sqlite.hpp"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace gateway {

namespace {

constexpr std::size_t kept_connections = 8;

constexpr auto tables = R"sql(
  CREATE TABLE IF NOT EXISTS properties (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS units (
    tenant TEXT NOT NULL, id TEXT NOT NULL, property INTEGER NOT NULL REFERENCES properties,
    PRIMARY KEY (tenant, id)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS meters (
    tenant TEXT NOT NULL, id TEXT NOT NULL, unit TEXT NOT NULL, gateway TEXT NOT NULL,
    PRIMARY KEY (tenant, id)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS readings (
    tenant TEXT NOT NULL, meter TEXT NOT NULL, at INTEGER NOT NULL, wh INTEGER NOT NULL,
    PRIMARY KEY (tenant, meter, at)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS settlements (
    tenant TEXT NOT NULL, id TEXT NOT NULL, property INTEGER NOT NULL REFERENCES properties, year INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS properties_of_tenant ON properties (tenant);
  CREATE INDEX IF NOT EXISTS meters_of_unit ON meters (tenant, unit);
  CREATE INDEX IF NOT EXISTS meters_of_gateway ON meters (tenant, gateway);
)sql";

// ?1 tenant, ?2 midnight, ?3 the next one. For each meter the index of `readings` is asked for today's rows, for the
// last one before them and for the latest of all, so the months before cost nothing.
constexpr auto portfolio_query = R"sql(
  WITH mine AS MATERIALIZED (
    SELECT id,
           (SELECT count(*) FROM readings r WHERE r.tenant = ?1 AND r.meter = m.id AND r.at >= ?2 AND r.at < ?3) AS today,
           (SELECT wh FROM readings r WHERE r.tenant = ?1 AND r.meter = m.id AND r.at < ?3 ORDER BY r.at DESC LIMIT 1) AS now_wh,
           (SELECT wh FROM readings r WHERE r.tenant = ?1 AND r.meter = m.id AND r.at < ?2 ORDER BY r.at DESC LIMIT 1) AS before_wh,
           (SELECT max(at) FROM readings r WHERE r.tenant = ?1 AND r.meter = m.id) AS latest_at
    FROM meters m WHERE tenant = ?1),
  counted AS (
    SELECT count(*) AS meters, coalesce(sum(today), 0) AS today, coalesce(sum(max(now_wh - before_wh, 0)), 0) / 1000.0 AS kwh FROM mine),
  latest AS (SELECT id, latest_at FROM mine WHERE latest_at IS NOT NULL ORDER BY latest_at DESC, id LIMIT 1)
  SELECT (SELECT count(*) FROM properties WHERE tenant = ?1), (SELECT count(*) FROM units WHERE tenant = ?1),
         meters, today, kwh, latest.id, latest_at
  FROM counted LEFT JOIN latest ON true
)sql";

// ?1 tenant, ?2 unit, ?3 first second of the month, ?4 that of the next one. What a meter used until a reading is what
// its counter gained since the one before, which may be of the month before.
constexpr auto month_query = R"sql(
  WITH used AS (
    SELECT r.at, r.wh - lag(r.wh) OVER (PARTITION BY r.meter ORDER BY r.at) AS wh
    FROM meters m CROSS JOIN readings r ON r.tenant = m.tenant AND r.meter = m.id
    WHERE m.tenant = ?1 AND m.unit = ?2 AND r.at < ?4 AND r.at >= coalesce(
      (SELECT max(at) FROM readings b WHERE b.tenant = m.tenant AND b.meter = m.id AND b.at < ?3), ?3))
  SELECT (at - ?3) / 86400 + 1 AS day, coalesce(sum(max(wh, 0)), 0) / 1000.0 FROM used WHERE at >= ?3 GROUP BY day ORDER BY day
)sql";

// ?1 tenant, ?2 settlement
constexpr auto settlement_query = R"sql(
  WITH asked AS (
    SELECT s.id, p.name, s.property, s.year, strftime('%s', s.year || '-01-01') + 0 AS since,
           strftime('%s', (s.year + 1) || '-01-01') + 0 AS until
    FROM settlements s JOIN properties p ON p.id = s.property AND p.tenant = s.tenant
    WHERE s.tenant = ?1 AND s.id = ?2),
  used AS (
    SELECT (SELECT max(wh) FROM readings r WHERE r.tenant = ?1 AND r.meter = m.id AND r.at >= since AND r.at < until) -
           coalesce((SELECT wh FROM readings r WHERE r.tenant = ?1 AND r.meter = m.id AND r.at < since ORDER BY r.at DESC LIMIT 1),
                    (SELECT wh FROM readings r WHERE r.tenant = ?1 AND r.meter = m.id AND r.at >= since ORDER BY r.at LIMIT 1)) AS wh
    FROM asked JOIN units u ON u.tenant = ?1 AND u.property = asked.property
    JOIN meters m ON m.tenant = ?1 AND m.unit = u.id)
  SELECT id, name, year, (SELECT coalesce(sum(wh), 0) / 1000.0 FROM used) FROM asked
)sql";

std::int64_t seconds(std::chrono::sys_days at) {
  return std::chrono::duration_cast<std::chrono::seconds>(at.time_since_epoch()).count();
}

}  // namespace

/// A connection with its statements, used by one caller at a time.
class store::session {
 public:
  explicit session(const std::string& file) : database{sqlite::connection::file(file)} {}

  sqlite::connection database;
  sqlite::statement portfolio{database, portfolio_query};
  sqlite::statement month_of_unit{database, month_query};
  sqlite::statement settlement_of_id{database, settlement_query};
  sqlite::statement has_unit{database, "SELECT 1 FROM units WHERE tenant = ?1 AND id = ?2"};
  sqlite::statement has_tenant{database, "SELECT 1 FROM properties WHERE tenant = ?1 LIMIT 1"};
  sqlite::statement has_gateway{database, "SELECT 1 FROM meters WHERE tenant = ?1 AND gateway = ?2 LIMIT 1"};
  sqlite::statement units{database,
                          "SELECT id FROM units WHERE tenant = ?1 ORDER BY property, "
                          "length(id), id LIMIT ?2"};
  sqlite::statement settlements{database,
                                "SELECT id FROM settlements WHERE tenant = ?1 ORDER BY property, year LIMIT ?2"};
  sqlite::statement gateways{database,
                             "SELECT DISTINCT gateway FROM meters WHERE tenant = ?1 ORDER BY length(gateway), gateway"};
  sqlite::statement latest{
      database,
      "SELECT m.id, r.at, r.wh FROM meters m LEFT JOIN readings r ON r.tenant = m.tenant AND r.meter = m.id AND r.at = "
      "(SELECT max(at) FROM readings l WHERE l.tenant = m.tenant AND l.meter = m.id) "
      "WHERE m.tenant = ?1 AND m.gateway = ?2 ORDER BY length(m.id), m.id"};
  sqlite::statement has_meter{database, "SELECT 1 FROM meters WHERE tenant = ?1 AND id = ?2 AND gateway = ?3"};
  sqlite::statement add_reading{database, "INSERT OR IGNORE INTO readings VALUES (?1, ?2, ?3, ?4)"};
  sqlite::statement add_property{database, "INSERT INTO properties (tenant, name) VALUES (?1, ?2) RETURNING id"};
  sqlite::statement add_unit{database, "INSERT INTO units VALUES (?1, ?2, ?3)"};
};

/// Sessions that are not in use, and the number of queries.
class store::pool {
 public:
  explicit pool(std::string file) : file_{std::move(file)} {
    const auto first = sqlite::connection::file(file_);
    sqlite::transaction all{first};
    first.execute(tables);
    all.commit();
  }

  class borrowed {
   public:
    explicit borrowed(pool& owner) : owner_{owner}, session_{owner.take()} {}
    borrowed(const borrowed&) = delete;
    borrowed& operator=(const borrowed&) = delete;
    ~borrowed() { owner_.give_back(std::move(session_)); }
    session* operator->() const noexcept { return session_.get(); }

   private:
    pool& owner_;
    std::unique_ptr<session> session_;
  };

  std::atomic<std::uint64_t> queries = 0;

 private:
  std::unique_ptr<session> take() {
    {
      const std::lock_guard held{mutex_};
      if (!idle_.empty()) {
        auto one = std::move(idle_.back());
        idle_.pop_back();
        return one;
      }
    }
    return std::make_unique<session>(file_);
  }
  void give_back(std::unique_ptr<session> one) {
    const std::lock_guard held{mutex_};
    if (idle_.size() < kept_connections) idle_.push_back(std::move(one));
  }

  std::string file_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<session>> idle_;
};

store::store(const std::string& file) : pool_{std::make_unique<pool>(file)} {}
store::~store() = default;

void store::fill_with_demo_data(const tenantry::tenant_id& tenant, std::int64_t now) {
  const pool::borrowed db{*pool_};
  sqlite::transaction all{db->database};
  if (db->has_tenant.query(tenant.str()).next()) return;
  write_demo_data(db->database, tenant.str(), now);
  all.commit();
}

kpi store::portfolio(const tenantry::tenant_id& tenant, std::int64_t now) const {
  ++pool_->queries;
  constexpr std::int64_t day = 86'400;
  const std::int64_t midnight = now / day * day;
  const pool::borrowed db{*pool_};
  sqlite::rows found = db->portfolio.query(tenant.str(), midnight, midnight + day);
  if (!found.next()) throw std::logic_error{"an aggregate without a row"};
  return {.properties = found.integer(0),
          .units = found.integer(1),
          .meters = found.integer(2),
          .readings_today = found.integer(3),
          .kwh_today = found.real(4),
          .latest_meter = found.text(5),
          .latest_at = found.integer(6)};
}

std::optional<month> store::readings(const tenantry::tenant_id& tenant, std::string_view unit, int year,
                                     int month) const {
  ++pool_->queries;
  const std::chrono::year_month asked{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)}};
  const pool::borrowed db{*pool_};
  if (!asked.ok() || !db->has_unit.query(tenant.str(), unit).next()) return std::nullopt;
  gateway::month found{.unit = std::string{unit}, .year = year, .month = month, .days = {}};
  sqlite::rows days = db->month_of_unit.query(tenant.str(), unit, seconds(std::chrono::sys_days{asked / 1}),
                                              seconds(std::chrono::sys_days{(asked + std::chrono::months{1}) / 1}));
  while (days.next()) found.days.push_back({.day = static_cast<int>(days.integer(0)), .kwh = days.real(1)});
  return found;
}

std::optional<settlement> store::find_settlement(const tenantry::tenant_id& tenant, std::string_view id) const {
  ++pool_->queries;
  const pool::borrowed db{*pool_};
  sqlite::rows found = db->settlement_of_id.query(tenant.str(), id);
  if (!found.next()) return std::nullopt;
  return settlement{
      .id = found.text(0), .property = found.text(1), .year = static_cast<int>(found.integer(2)), .kwh = found.real(3)};
}

namespace {

std::vector<std::string> first_column(sqlite::rows found) {
  std::vector<std::string> all;
  while (found.next()) all.push_back(found.text(0));
  return all;
}

}  // namespace

std::vector<std::string> store::units(const tenantry::tenant_id& tenant, int at_most) const {
  const pool::borrowed db{*pool_};
  return first_column(db->units.query(tenant.str(), std::int64_t{at_most}));
}

std::vector<std::string> store::settlements(const tenantry::tenant_id& tenant, int at_most) const {
  const pool::borrowed db{*pool_};
  return first_column(db->settlements.query(tenant.str(), std::int64_t{at_most}));
}

std::vector<std::string> store::gateways(const tenantry::tenant_id& tenant) const {
  const pool::borrowed db{*pool_};
  return first_column(db->gateways.query(tenant.str()));
}

std::vector<reading> store::latest(const tenantry::tenant_id& tenant, std::string_view gateway) const {
  const pool::borrowed db{*pool_};
  std::vector<reading> all;
  sqlite::rows found = db->latest.query(tenant.str(), gateway);
  while (found.next()) {
    all.push_back({.meter = found.text(0), .at = found.integer(1), .watt_hours = found.integer(2)});
  }
  return all;
}

bool store::has_tenant(const tenantry::tenant_id& tenant) const {
  const pool::borrowed db{*pool_};
  return db->has_tenant.query(tenant.str()).next();
}

bool store::has_gateway(const tenantry::tenant_id& tenant, std::string_view gateway) const {
  const pool::borrowed db{*pool_};
  return db->has_gateway.query(tenant.str(), gateway).next();
}

std::int64_t store::add_property(const tenantry::tenant_id& tenant, std::string_view name, int units) {
  const pool::borrowed db{*pool_};
  sqlite::transaction all{db->database};
  std::int64_t id = 0;
  {
    sqlite::rows made = db->add_property.query(tenant.str(), name);
    if (!made.next()) throw std::logic_error{"an insert without its id"};
    id = made.integer(0);
  }
  for (int i = 1; i <= units; ++i) {
    const std::string unit = fmt::format("u-{}-{}", id, i);
    db->add_unit.run(tenant.str(), unit, id);
  }
  all.commit();
  return id;
}

std::vector<store::added> store::add(std::span<const batch> all) {
  std::vector<added> done;
  done.reserve(all.size());
  const pool::borrowed db{*pool_};
  sqlite::transaction together{db->database};
  for (const batch& one : all) {
    added& counts = done.emplace_back();
    for (const reading& each : one.readings) {
      if (!db->has_meter.query(one.tenant.str(), each.meter, one.gateway).next()) {
        ++counts.refused;
        continue;
      }
      db->add_reading.run(one.tenant.str(), each.meter, each.at, each.watt_hours);
      ++(db->database.changes() > 0 ? counts.new_readings : counts.duplicates);
    }
  }
  together.commit();
  return done;
}

store::added store::add(const tenantry::tenant_id& tenant, std::string_view gateway,
                        std::span<const reading> readings) {
  const batch one{.tenant = tenant, .gateway = std::string{gateway}, .readings = readings};
  return add({&one, 1}).front();
}

std::uint64_t store::queries() const noexcept { return pool_->queries; }

}  // namespace gateway
