#include "generate.hpp"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <optional>
#include <random>
#include <string_view>
#include <utility>

namespace buildings {

namespace {

using namespace std::chrono_literals;
using std::chrono::seconds;
using std::chrono::sys_seconds;

constexpr std::array<std::string_view, 20> tenant_names{
    "acme",      "ahornhof",   "bergblick",  "birkenau",  "brunnen",  "deichtor",   "eichen",
    "falkenweg", "gartenring", "hafencity",  "isarufer",  "kastanie", "lindenhof",  "marktplatz",
    "nordlicht", "parkallee",  "quellgrund", "rosenthal", "seeblick", "turmstrasse"};
constexpr std::string_view silent_tenant = "lindenhof";  // its gateways have been away for days

constexpr sys_seconds now = portfolio_database::now;
constexpr seconds between_readings = 6h;
constexpr int readings_per_installation = 10;  // so the oldest of them are older than the 48 hours that count

class generator {
 public:
  explicit generator(const sqlite::connection& db)
      : property_{db, "INSERT INTO property VALUES (?1, ?2, ?3)"},
        unit_{db, "INSERT INTO unit VALUES (?1, ?2, ?3)"},
        installation_{db, "INSERT INTO installation VALUES (?1, ?2, ?3, ?4)"},
        reading_{db, "INSERT INTO reading VALUES (?1, ?2, ?3)"} {}

  void add_tenant(std::string_view name) {
    made_.tenants.push_back({.tenant = tenantry::tenant_id{name}, .counted = {}});
    const auto properties = between(30, 70);
    for (std::int64_t i = 0; i < properties; ++i) add_property(name);
  }

  [[nodiscard]] generated_portfolios result() && { return std::move(made_); }

 private:
  struct surroundings {
    bool live;    // neither the property nor the unit is deleted
    bool silent;  // the gateway of the property is away
  };

  void add_property(std::string_view tenant) {
    const bool live = !one_in(20);
    const auto id = ++made_.size.properties;
    property_.run(id, tenant, live ? std::nullopt : some_days_ago());
    if (live) ++counted().property_count;

    const surroundings here{.live = live, .silent = tenant == silent_tenant || one_in(15)};
    const auto units = between(15, 45);
    for (std::int64_t i = 0; i < units; ++i) add_unit(id, here);
  }

  void add_unit(std::int64_t property, surroundings here) {
    const bool deleted = one_in(25);
    const auto id = ++made_.size.units;
    unit_.run(id, property, deleted ? some_days_ago() : std::nullopt);
    here.live = here.live && !deleted;
    if (here.live) ++counted().unit_count;

    if (one_in(5)) add_installation(id, now - between(1min, 96h), here);  // an exchanged meter
    if (!one_in(30)) add_installation(id, std::nullopt, here);
    if (one_in(8)) add_installation(id, std::nullopt, here);  // another one, for the heat pump
  }

  void add_installation(std::int64_t unit, std::optional<sys_seconds> removed, surroundings here) {
    const auto id = ++made_.size.installations;
    const std::string meter = fmt::format("EM-{:06}", id);
    installation_.run(id, unit, meter, removed ? std::optional{removed->time_since_epoch().count()} : std::nullopt);
    here.live = here.live && !removed;
    if (here.live) ++counted().installation_count;

    // What no longer counts reports until the last minute, so a query that forgets a condition shows it as the latest.
    sys_seconds last = now - (here.live ? between(5min, 6h) : 1min);
    if (removed) last = *removed - 1s;
    if (here.silent) last -= 72h;
    auto watt_hours = between(1'000'000, 90'000'000);
    for (int i = readings_per_installation - 1; i >= 0; --i) {
      watt_hours += between(200, 4'000);
      add_reading({.installation = id, .at = last - i * between_readings, .watt_hours = watt_hours}, meter, here.live);
    }
  }

  void add_reading(const reading& one, const std::string& meter, bool live) {
    ++made_.size.readings;
    const std::int64_t at = one.at.time_since_epoch().count();
    reading_.run(one.installation, at, one.watt_hours);
    if (!live || one.at <= now - portfolio_database::latest_within || at < counted().latest_reading_at) return;
    counted().latest_meter = meter;  // installations come in ascending order, so of two at once the later one wins
    counted().latest_reading_at = at;
    counted().latest_reading_watt_hours = one.watt_hours;
    made_.tenants.back().reporting_installation = one.installation;
  }

  portfolio_kpi& counted() { return made_.tenants.back().counted; }

  // The distributions of <random> differ between standard libraries, its engines do not.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }
  seconds between(seconds low, seconds high) { return seconds{between(low.count(), high.count())}; }
  bool one_in(std::uint64_t n) { return random_() % n == 0; }
  std::optional<std::int64_t> some_days_ago() {
    return (now - std::chrono::days{between(1, 900)}).time_since_epoch().count();
  }

  sqlite::statement property_;
  sqlite::statement unit_;
  sqlite::statement installation_;
  sqlite::statement reading_;
  std::mt19937_64 random_{20260301};  // always the same data
  generated_portfolios made_;
};

}  // namespace

generated_portfolios generate(portfolio_database& into) {
  const sqlite::connection& db = into.for_loading();
  db.execute("BEGIN");
  generator source{db};
  for (const std::string_view name : tenant_names) source.add_tenant(name);
  db.execute("COMMIT");
  return std::move(source).result();
}

}  // namespace buildings
