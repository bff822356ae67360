// What becomes of a gateway's messages.

#include "ingest_rig.hpp"
#include "support/concurrency.hpp"
#include "support/sqlite.hpp"

#include <tenantry/cached.hpp>
#include <tenantry/load_context.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using namespace gateway::testing;
using gateway::refusal;
using support::eventually;

struct rig {
  rig() { db.fill_with_demo_data(acme, noon); }

  temporary_directory where;
  gateway::store db{where.file("db")};
  tn::testing::redis_server server = durable_redis();
};

/// Figures of the tenant as a dashboard reads them.
struct dashboard {
  explicit dashboard(rig& of)
      : redis{of.server.url()}, kpis{redis, {.ttl = 5min}, [&of](const tn::key& k, tn::load_context& load) {
                                       load.tag(gateway::kpi_tag);
                                       return of.db.portfolio(k.tenant(), noon);
                                     }} {}
  std::int64_t readings_today() { return kpis.fetch(gateway::portfolio_kpi(acme))->readings_today; }

  tn::client redis;
  tn::cache<gateway::kpi> kpis;
};

}  // namespace

TEST_CASE("readings are committed, and the gateway's health is told") {
  rig of;
  instance one{of.db, of.server.url()};
  CHECK(one.report(acme, "gw-1", {{"m-1", noon, 1}, {"m-2", noon, 1}}));
  REQUIRE(eventually([&] { return one.bridge.counters().health_puts == 1; }));
  CHECK(one.bridge.counters().new_readings == 2);
  CHECK(of.db.portfolio(acme, noon).readings_today == 2);

  const auto health = one.healths.get(gateway::gateway_health(acme, "gw-1"));
  REQUIRE(health.has_value());
  CHECK((*health)->gateway == "gw-1");
  CHECK((*health)->readings == 2);
  CHECK((*health)->firmware == "1.4.2");
  CHECK((*health)->last_seen > noon);
}

TEST_CASE("a fetch after readings were committed computes anew") {
  rig of;
  dashboard seen{of};
  instance one{of.db, of.server.url()};
  CHECK(seen.readings_today() == 0);
  CHECK(seen.kpis.fetch(gateway::portfolio_kpi(acme)).source() == tn::source::redis);
  one.report(acme, "gw-1", {{"m-1", noon, 1}});
  REQUIRE(eventually([&] { return one.bridge.counters().expires == 1; }));
  CHECK(seen.kpis.fetch(gateway::portfolio_kpi(acme)).source() == tn::source::computed);
  CHECK(seen.readings_today() == 1);
}

TEST_CASE("of many commits the first expires the tag at once, and the last is not missed") {
  rig of;
  dashboard seen{of};
  instance one{of.db, of.server.url(), {.batch = 1, .expire_every = 1h}};
  for (int i = 0; i < 50; ++i) one.report(acme, "gw-1", {{"m-1", noon + i, i}});
  REQUIRE(eventually([&] { return one.bridge.counters().new_readings == 50; }));
  CHECK(one.bridge.counters().expires == 1);
  (void)seen.readings_today();
  one.report(acme, "gw-1", {{"m-1", noon + 50, 50}});
  REQUIRE(one.has_received(51));
  one.bridge.stop();
  CHECK(one.bridge.counters().expires == 2);
  CHECK(seen.readings_today() == 51);
}

TEST_CASE("the last commit is followed by an expiry without another message") {
  rig of;
  dashboard seen{of};
  instance one{of.db, of.server.url(), {.batch = 1, .expire_every = 50ms}};
  for (int round = 1; round <= 20; ++round) {
    for (int i = 0; i < 5; ++i) one.report(acme, "gw-1", {{"m-1", noon + (round * 5) + i, 1}});
    REQUIRE(eventually([&] { return seen.readings_today() == round * 5; }));
  }
}

TEST_CASE("readings that were there before expire nothing") {
  rig of;
  instance one{of.db, of.server.url(), {.expire_every = 1ms}};
  instance two{of.db, of.server.url(), {.expire_every = 1ms}};
  one.report(acme, "gw-1", {{"m-1", noon, 1}});
  REQUIRE(eventually([&] { return one.bridge.counters().expires == 1; }));
  two.report(acme, "gw-1", {{"m-1", noon, 1}});
  REQUIRE(eventually([&] { return two.bridge.counters().health_puts == 1; }));
  two.bridge.stop();
  CHECK(two.bridge.counters().duplicate_readings == 1);
  CHECK(two.bridge.counters().expires == 0);
}

TEST_CASE("what is malformed or foreign is refused, counted, told, and changes nothing") {
  rig of;
  struct told {
    std::mutex mutex;
    std::vector<std::string> all;
  } heard;
  instance one{of.db, of.server.url(), {.on_refused = [&](refusal why, std::string_view, std::string_view) {
                 const std::lock_guard held{heard.mutex};
                 heard.all.emplace_back(to_string(why));
               }}};
  one.bridge.offer("mbus/acme/readings", "{}");
  one.bridge.offer("mbus/acme/gw-1/readings", std::string(100'000, ' '));
  one.bridge.offer("mbus/acme/gw-1/readings", "{");
  one.bridge.offer("mbus/acme/gw-1/readings", "{}");
  one.bridge.offer("mbus/acme/gw-2/readings",
                   payload_of("gw-1", gateway::report{.firmware = "1", .readings = {{"m-1", noon, 1}}}));
  one.report(globex, "gw-1", {{"m-1", noon, 1}});
  one.raise(globex, "a-1");
  one.report(acme, "gw-9", {{"m-1", noon, 1}});
  one.report(acme, "gw-2", {{"m-1", noon, 1}});  // it is behind gw-1
  one.bridge.stop();

  CHECK(one.bridge.counters().received == 9);
  for (const refusal why : gateway::refusals) {
    CAPTURE(to_string(why));
    CHECK(one.refused(why) == (why == refusal::unknown_tenant ? 2 : 1));
  }
  const std::lock_guard held{heard.mutex};
  CHECK(heard.all == std::vector<std::string>{"topic", "size", "json", "field", "foreign", "unknown_tenant",
                                              "unknown_tenant", "unknown_gateway", "unknown_meter"});
  CHECK(of.db.portfolio(acme, noon).readings_today == 0);
  CHECK(one.redis.execute("DBSIZE").integer() == 0);
}

TEST_CASE("the readings of known meters count although others of the message are refused") {
  rig of;
  instance one{of.db, of.server.url()};
  one.report(acme, "gw-1", {{"m-1", noon, 1}, {"m-999", noon, 1}});
  one.bridge.stop();
  CHECK(one.refused(refusal::unknown_meter) == 1);
  CHECK(one.bridge.counters().new_readings == 1);
}

TEST_CASE("two instances that get the same alarms append each of them once, in order") {
  rig of;
  instance one{of.db, of.server.url()};
  instance two{of.db, of.server.url()};
  const auto send = [](instance& to) {
    for (const std::string& id : ids(1, 300)) to.raise(acme, id);
  };
  auto first = support::on_thread([&] { send(one); });
  auto second = support::on_thread([&] { send(two); });
  first.get();
  second.get();
  CHECK(one.has_appended(300));
  CHECK(two.has_appended(300));
  CHECK(logged_ids(one.redis, acme) == ids(1, 300));
}

TEST_CASE("an alarm that comes again to the same instance is counted, and appended once") {
  rig of;
  instance one{of.db, of.server.url()};
  for (int i = 0; i < 3; ++i) one.raise(acme, "a-1");
  CHECK(eventually([&] { return one.bridge.counters().alarms_appended == 3; }));
  CHECK(one.bridge.counters().alarms_duplicate == 2);
  CHECK(logged_ids(one.redis, acme) == ids(1, 1));
}

TEST_CASE("alarms that come faster than Redis takes them wait, and none is dropped") {
  rig of;
  instance one{of.db, of.server.url(), {.held = 4}};
  for (const std::string& id : ids(1, 200)) one.raise(acme, id);
  CHECK(one.has_appended(200));
  CHECK(one.bridge.counters().alarms_dropped == 0);
}

TEST_CASE("while the database is locked nothing is lost: the one who offers waits") {
  const support::must_end in_time{};
  rig of;
  instance one{of.db, of.server.url(), {.queue = 2, .batch = 1}};
  const auto other = sqlite::connection::file(of.where.file("db"));
  other.execute("BEGIN IMMEDIATE");
  std::atomic<int> accepted = 0;
  auto offering = support::on_thread([&] {
    for (int i = 0; i < 10; ++i) accepted += one.report(acme, "gw-1", {{"m-1", noon + i, i}}) ? 1 : 0;
  });
  CHECK(eventually([&] { return accepted == 3; }));  // one is being written, two are queued
  CHECK(one.bridge.counters().new_readings == 0);
  other.execute("ROLLBACK");
  offering.get();
  CHECK(accepted == 10);
  CHECK(eventually([&] { return one.bridge.counters().new_readings == 10; }));
}

TEST_CASE("stop lets those go who wait in offer") {
  const support::must_end in_time{};
  rig of;
  instance one{of.db, of.server.url(), {.queue = 1, .batch = 1}};
  const auto other = sqlite::connection::file(of.where.file("db"));
  other.execute("BEGIN IMMEDIATE");
  std::atomic<int> accepted = 0;
  auto offering = support::on_thread([&] {
    int tries = 0;
    while (one.report(acme, "gw-1", {{"m-1", noon + tries, 1}})) ++tries, ++accepted;
    return tries;
  });
  REQUIRE(eventually([&] { return accepted == 2; }));
  auto stopping = support::on_thread([&] { one.bridge.stop(); });
  CHECK(offering.get() == 2);
  other.execute("ROLLBACK");
  stopping.get();
  CHECK(one.bridge.counters().new_readings == 2);  // those that were accepted
  CHECK_FALSE(one.report(acme, "gw-1", {{"m-1", noon, 1}}));
}
