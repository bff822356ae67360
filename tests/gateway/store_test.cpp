// The database of the gateway example.

#include "store.hpp"

#include "gateway_rig.hpp"
#include "support/concurrency.hpp"
#include "support/processes.hpp"
#include "support/sqlite.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <string>
#include <tuple>
#include <vector>

namespace {

using gateway::reading;
using gateway::store;
using gateway::testing::acme;
using gateway::testing::globex;
using gateway::testing::noon;
using gateway::testing::temporary_directory;

constexpr std::int64_t day = 86'400;

}  // namespace

TEST_CASE("the demo data are the same in every file, and made once") {
  const temporary_directory where;
  store one{where.file("one")};
  store two{where.file("two")};
  for (store* each : {&one, &two, &one}) each->fill_with_demo_data(acme, noon);

  const auto kpi = one.portfolio(acme, noon);
  CHECK(kpi.properties == 8);
  CHECK(kpi.units >= 48);
  CHECK(kpi.units <= 72);
  CHECK(kpi.meters >= 80);
  CHECK(one.gateways(acme) == std::vector<std::string>{"gw-1", "gw-2", "gw-3", "gw-4", "gw-5", "gw-6"});
  CHECK(nlohmann::json(kpi) == nlohmann::json(two.portfolio(acme, noon)));
  CHECK(nlohmann::json(one.readings(acme, "u-1", 2026, 2).value()) ==
        nlohmann::json(two.readings(acme, "u-1", 2026, 2).value()));
  CHECK(one.readings(acme, "u-1", 2026, 2)->days.size() == 28);
}

TEST_CASE("counters of the demo data never decrease") {
  const temporary_directory where;
  store db{where.file("db")};
  db.fill_with_demo_data(acme, noon);
  for (const std::string& unit : db.units(acme, 1'000)) {
    for (int month = 1; month <= 2; ++month) {
      const auto found = db.readings(acme, unit, 2026, month);
      REQUIRE(found.has_value());
      for (const auto& each : found->days) CHECK(each.kwh > 0);
    }
  }
}

TEST_CASE("a tenant sees its own rows only") {
  const temporary_directory where;
  store db{where.file("db")};
  db.fill_with_demo_data(acme, noon);
  const auto kpi = db.portfolio(globex, noon);
  CHECK(kpi.properties + kpi.units + kpi.meters + kpi.readings_today == 0);
  CHECK(kpi.latest_meter.empty());
  CHECK_FALSE(db.readings(globex, "u-1", 2026, 2).has_value());
  CHECK_FALSE(db.find_settlement(globex, db.settlements(acme, 1).at(0)).has_value());
  CHECK(db.units(globex, 20).empty());
  CHECK_FALSE(db.has_tenant(globex));
  CHECK_FALSE(db.has_gateway(globex, "gw-1"));
  CHECK(db.has_gateway(acme, "gw-1"));
}

TEST_CASE("rows of another tenant with the same names change no figure") {
  const temporary_directory where;
  store db{where.file("db")};
  db.fill_with_demo_data(acme, noon);
  const auto figures = [&db] {
    const auto settled = db.find_settlement(acme, "s-1-2025");
    const auto month = db.readings(acme, "u-1", 2026, 2);
    REQUIRE(settled.has_value());
    REQUIRE(month.has_value());
    return std::tuple{nlohmann::json(db.portfolio(acme, noon)), nlohmann::json(*month), settled->kwh,
                      db.units(acme, 500)};
  };
  const auto before = figures();
  db.fill_with_demo_data(globex, noon);
  CHECK(db.add(globex, "gw-1", std::vector<reading>{{"m-1", noon, 1'000'000'000}}).new_readings == 1);
  CHECK(figures() == before);
}

TEST_CASE("a transaction waits for its turn before it reads") {
  const temporary_directory where;
  const auto one = sqlite::connection::file(where.file("db"));
  one.execute("CREATE TABLE t (n)");
  sqlite::transaction first{one};
  one.execute("INSERT INTO t VALUES (1)");
  std::atomic<bool> has_read = false;
  auto second = support::on_thread([&] {
    const auto two = sqlite::connection::file(where.file("db"));
    sqlite::transaction turn{two};
    sqlite::statement count{two, "SELECT count(*) FROM t"};
    std::int64_t seen = 0;
    {
      sqlite::rows found = count.query();
      seen = found.next() ? found.integer(0) : -1;
    }
    has_read = true;
    two.execute("INSERT INTO t VALUES (2)");
    turn.commit();
    return seen;
  });
  CHECK(second.wait_for(std::chrono::milliseconds{100}) == std::future_status::timeout);
  CHECK_FALSE(has_read);
  first.commit();
  CHECK(second.get() == 1);
}

TEST_CASE("readings change the figures of the day and of the month") {
  const temporary_directory where;
  store db{where.file("db")};
  db.fill_with_demo_data(acme, noon);
  const reading last = db.latest(acme, "gw-1").at(0);
  REQUIRE(last.meter == "m-1");
  const auto before = db.portfolio(acme, noon);
  CHECK(before.readings_today == 0);
  CHECK(before.kwh_today == 0);

  const std::vector<reading> today{{"m-1", noon - 60, last.watt_hours + 1'000}, {"m-1", noon, last.watt_hours + 2'500}};
  CHECK(db.add(acme, "gw-1", today).new_readings == 2);
  const auto after = db.portfolio(acme, noon);
  CHECK(after.readings_today == 2);
  CHECK(after.kwh_today == Catch::Approx(2.5));
  CHECK(after.latest_meter == "m-1");
  CHECK(after.latest_at == noon);
  CHECK(db.latest(acme, "gw-1").at(0).watt_hours == last.watt_hours + 2'500);

  const auto month = db.readings(acme, "u-1", 2026, 3);  // noon is on its first day
  REQUIRE(month.has_value());
  REQUIRE(month->days.size() == 1);
  CHECK(month->days[0].day == 1);
  CHECK(month->days[0].kwh == Catch::Approx(2.5));
  CHECK(db.portfolio(acme, noon + day).readings_today == 0);
}

TEST_CASE("a month of no unit, and what is no month, is nothing") {
  const temporary_directory where;
  store db{where.file("db")};
  db.fill_with_demo_data(acme, noon);
  CHECK_FALSE(db.readings(acme, "u-0", 2026, 2).has_value());
  CHECK_FALSE(db.readings(acme, "u-1", 2026, 13).has_value());
  CHECK_FALSE(db.readings(acme, "u-1", 2026, 0).has_value());
  CHECK(db.readings(acme, "u-1", 1990, 1)->days.empty());
  CHECK(db.queries() == 4);
}

TEST_CASE("a reading that comes again counts once") {
  const temporary_directory where;
  store db{where.file("db")};
  db.fill_with_demo_data(acme, noon);
  const std::vector<reading> two{{"m-1", noon, 1}, {"m-1", noon + 1, 2}};
  CHECK(db.add(acme, "gw-1", two).new_readings == 2);
  const auto again = db.add(acme, "gw-1", two);
  CHECK(again.new_readings == 0);
  CHECK(again.duplicates == 2);
}

TEST_CASE("readings of meters behind another gateway, or of another tenant, are refused and not written") {
  const temporary_directory where;
  store db{where.file("db")};
  db.fill_with_demo_data(acme, noon);
  const std::vector<reading> some{{"m-1", noon, 1}, {"m-999", noon, 1}};
  for (const auto& [tenant, gateway, refused] :
       {std::tuple{acme, "gw-2", 2}, std::tuple{globex, "gw-1", 2}, std::tuple{acme, "gw-1", 1}}) {
    const auto done = db.add(tenant, gateway, some);
    CHECK(done.refused == refused);
    CHECK(done.new_readings == 2 - refused);
  }
  CHECK(db.portfolio(globex, noon).readings_today == 0);
  CHECK(db.portfolio(acme, noon).readings_today == 1);
}

TEST_CASE("a settlement is of a property and a year") {
  const temporary_directory where;
  store db{where.file("db")};
  db.fill_with_demo_data(acme, noon);
  const auto ids = db.settlements(acme, 100);
  CHECK(ids.size() == 16);
  const auto found = db.find_settlement(acme, ids.at(0));
  REQUIRE(found.has_value());
  CHECK(found->id == "s-1-2025");
  CHECK(found->property == "Ahornweg 3");
  CHECK(found->year == 2025);
  CHECK(found->kwh > 1'000);
  CHECK_FALSE(db.find_settlement(acme, "s-0-2025").has_value());
}

TEST_CASE("a property that is added has its units") {
  const temporary_directory where;
  store db{where.file("db")};
  const auto id = db.add_property(acme, "Neubau 1", 3);
  const auto kpi = db.portfolio(acme, noon);
  CHECK(kpi.properties == 1);
  CHECK(kpi.units == 3);
  CHECK(db.units(acme, 2) == std::vector{"u-" + std::to_string(id) + "-1", "u-" + std::to_string(id) + "-2"});
}

TEST_CASE("two processes that write the same readings at once write each of them once") {
  const temporary_directory where;
  const std::string file = where.file("db");
  struct results {
    std::atomic<int> ready = 0;
    std::atomic<std::int64_t> written = 0;
    std::atomic<std::int64_t> duplicates = 0;
  };
  const support::shared_memory<results> all;
  constexpr int rounds = 300;
  const auto write = [&] {
    ++all->ready;
    if (!support::eventually([&] { return all->ready == 2; })) return 1;
    store db{file};  // both make the tables and the demo data, too
    db.fill_with_demo_data(acme, noon);
    for (int i = 0; i < rounds; ++i) {
      const std::vector<reading> some{{"m-1", noon + i, i}, {"m-2", noon + i, i}};
      const auto done = db.add(acme, "gw-1", some);
      all->written += done.new_readings;
      all->duplicates += done.duplicates;
    }
    return 0;
  };
  support::process one{write};
  support::process two{write};
  CHECK(one.result() == 0);
  CHECK(two.result() == 0);
  CHECK(all->written == 2 * rounds);
  CHECK(all->duplicates == 2 * rounds);
  CHECK(store{file}.portfolio(acme, noon).readings_today == 2 * rounds);
  CHECK(store{file}.portfolio(acme, noon).properties == 8);
}
