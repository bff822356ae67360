#include "portfolio.hpp"

#include <fmt/format.h>

#include <utility>

namespace buildings {

namespace {

constexpr int connections = 8;

constexpr auto tables = R"sql(
  CREATE TABLE property (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, deleted_at INTEGER);
  CREATE TABLE unit (
    id INTEGER PRIMARY KEY, property_id INTEGER NOT NULL REFERENCES property, deleted_at INTEGER);
  CREATE TABLE installation (
    id INTEGER PRIMARY KEY, unit_id INTEGER NOT NULL REFERENCES unit, meter TEXT NOT NULL, removed_at INTEGER);
  CREATE TABLE reading (
    installation_id INTEGER NOT NULL REFERENCES installation, read_at INTEGER NOT NULL, watt_hours INTEGER NOT NULL,
    PRIMARY KEY (installation_id, read_at)) WITHOUT ROWID;
  CREATE INDEX property_of_tenant ON property (tenant);
  CREATE INDEX unit_of_property ON unit (property_id);
  CREATE INDEX installation_of_unit ON installation (unit_id);
)sql";

// ?1 tenant, ?2 readings after, ?3 and until
constexpr auto kpi_query = R"sql(
  WITH live AS MATERIALIZED (
    SELECT property.id AS property_id, unit.id AS unit_id, installation.id AS installation_id, meter
    FROM property
    LEFT JOIN unit ON unit.property_id = property.id AND unit.deleted_at IS NULL
    LEFT JOIN installation ON installation.unit_id = unit.id AND installation.removed_at IS NULL
    WHERE property.tenant = ?1 AND property.deleted_at IS NULL),
  latest AS (
    SELECT meter, read_at, watt_hours
    FROM live CROSS JOIN reading USING (installation_id)  -- in this order: a few rows of each installation
    WHERE read_at > ?2 AND read_at <= ?3
    ORDER BY read_at DESC, installation_id DESC LIMIT 1),
  counted AS (
    SELECT count(DISTINCT property_id), count(DISTINCT unit_id), count(DISTINCT installation_id) FROM live)
  SELECT * FROM counted LEFT JOIN latest ON true
)sql";

std::int64_t seconds(std::chrono::sys_seconds at) { return at.time_since_epoch().count(); }

std::string private_name(const void* owner) { return fmt::format("portfolio-{}", fmt::ptr(owner)); }

}  // namespace

/// A connection with its statements, used by one caller at a time.
struct portfolio_database::session {
  explicit session(const std::string& name)
      : database{sqlite::connection::in_memory(name)},
        kpi{database, kpi_query},
        add{database, "INSERT INTO reading VALUES (?1, ?2, ?3)"} {}

  sqlite::connection database;
  sqlite::statement kpi;
  sqlite::statement add;
};

/// A session out of the idle ones, and back.
class portfolio_database::borrowed {
 public:
  explicit borrowed(portfolio_database& owner) : owner_{owner} {
    std::unique_lock held{owner_.mutex_};
    owner_.returned_.wait(held, [this] { return !owner_.idle_.empty(); });
    session_ = std::move(owner_.idle_.back());
    owner_.idle_.pop_back();
  }
  borrowed(const borrowed&) = delete;
  borrowed& operator=(const borrowed&) = delete;
  ~borrowed() {
    {
      const std::lock_guard held{owner_.mutex_};
      owner_.idle_.push_back(std::move(session_));
    }
    owner_.returned_.notify_one();
  }

  session* operator->() const noexcept { return session_.get(); }

 private:
  portfolio_database& owner_;
  std::unique_ptr<session> session_;
};

portfolio_database::portfolio_database() : first_{sqlite::connection::in_memory(private_name(this))} {
  first_.execute(tables);
  idle_.reserve(connections);
  for (int i = 0; i < connections; ++i) idle_.push_back(std::make_unique<session>(private_name(this)));
}

portfolio_database::~portfolio_database() = default;

portfolio_kpi portfolio_database::kpi_of(const tenantry::tenant_id& tenant) {
  queries_.fetch_add(1, std::memory_order_relaxed);
  const borrowed db{*this};
  sqlite::rows found = db->kpi.query(tenant.str(), seconds(now - latest_within), seconds(now));
  if (!found.next()) throw std::logic_error{"an aggregate without a row"};
  return {.property_count = found.integer(0),
          .unit_count = found.integer(1),
          .installation_count = found.integer(2),
          .latest_meter = found.text(3),
          .latest_reading_at = found.integer(4),
          .latest_reading_watt_hours = found.integer(5)};
}

void portfolio_database::add(const reading& one) {
  const borrowed db{*this};
  db->add.run(one.installation, seconds(one.at), one.watt_hours);
}

}  // namespace buildings
