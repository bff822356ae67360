// The push connection that near caches and those who wait for leases share.

#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/listener.hpp"
#include "support/near_rig.hpp"
#include "support/redis_probe.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::eventually;
using support::gateway_health;
using support::kpi;
using support::load_held;
using support::near_by;
using support::on_thread;
using support::portfolio_kpi;
using support::site;
using support::tracks;
using support::waiting_fetch;

constexpr auto invalidations = "__redis__:invalidate";

const tn::key& awaited() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}
const tn::key& kept() {
  static const tn::key k = gateway_health(acme, "kept");
  return k;
}

/// A client of which every push connection is counted, one that holds the leases it waits for, and one past both.
struct rig {
  [[nodiscard]] tn::client_options how() const {
    auto options = tn::client_options::from_url(server.url());
    options.timeout = 20s;
    return options;
  }
  [[nodiscard]] tn::client_options watched() {
    auto options = how();
    options.observer = heard.ear();
    return options;
  }
  [[nodiscard]] std::size_t opened() const { return heard.all(tn::events::push_connected).size(); }
  [[nodiscard]] std::size_t listening() const {
    return static_cast<std::size_t>(
        std::ranges::count(support::connections(direct), true, &support::connection_seen::listens));
  }
  [[nodiscard]] std::string push() const { return the_one(direct, &support::connection_seen::listens).id; }
  [[nodiscard]] long long subscribed(const std::string& name) const {
    return direct.execute("PUBSUB", "NUMSUB", name)[1].integer();
  }
  /// The channels of wake-ups.
  [[nodiscard]] std::size_t awaited_leases() const {
    std::size_t all = 0;
    for (const tn::reply& each : direct.execute("PUBSUB", "CHANNELS").elements()) {
      if (each.str() != invalidations) ++all;
    }
    return all;
  }
  /// What is in memory leaves it when somebody else changes it.
  void check_coherent(tn::cache<kpi>& near) const {
    REQUIRE(tracks(near));
    for (int round = 0; round < 3; ++round) {
      near.put(kept(), {round, "put"});
      REQUIRE(support::comes_near(near, kept()));
      direct.execute("DEL", kept());
      CHECK(eventually([&] { return !near.get(kept()).has_value(); }));
    }
  }
  /// Waits at the site for a lease of `holder`, and is woken when that has stored.
  void check_woken() {
    load_held load{holder, awaited(), {1, "held"}};
    waiting_fetch waiting{at, awaited(), {2, "own"}};
    REQUIRE(eventually([&] { return awaited_leases() == 1; }));
    (void)load.finish();
    CHECK(waiting.result()->unit == "held");
    CHECK(waiting.loads() == 0);
    direct.execute("DEL", awaited());
  }

  const bool needed = (support::need_redis(), true);
  tn::testing::redis_server server;
  support::listener heard;
  tn::client direct{how()};
  site holder{site::waiting(), how()};
  site at{site::waiting(), watched()};
};

}  // namespace

TEST_CASE("a client opens no push connection before somebody waits for a lease or there is a near cache") {
  const support::must_end ends;
  rig with;
  (void)with.at.cache.fetch(kept(), [] { return kpi{1, "one"}; });
  CHECK(with.at.cache.get(kept()).has_value());
  {
    tn::client other{with.watched()};
    const tn::cache<kpi> near{other, near_by()};
    REQUIRE(tracks(near));
  }
  CHECK(with.opened() == 1);  // that of the other client
  with.check_woken();
  CHECK(with.opened() == 2);
}

TEST_CASE("near caches and those who wait for leases have one push connection, whoever comes first") {
  const support::must_end ends;
  rig with;
  for (const bool near_first : {true, false}) {
    CAPTURE(near_first);
    const auto before = with.opened();
    site at{site::waiting(), with.watched()};
    std::optional<tn::cache<kpi>> near;
    if (near_first) near.emplace(at.redis, near_by());
    load_held load{with.holder, awaited(), {1, "held"}};
    waiting_fetch waiting{at, awaited(), {2, "own"}};
    if (!near_first) REQUIRE(eventually([&] { return with.awaited_leases() == 1; }));
    if (!near_first) near.emplace(at.redis, near_by());
    with.check_coherent(*near);
    REQUIRE(eventually([&] { return with.awaited_leases() == 1; }));
    CHECK(with.listening() == 1);
    CHECK(with.opened() == before + 1);
    (void)load.finish();
    CHECK(waiting.result()->unit == "held");
    CHECK(waiting.loads() == 0);
    with.check_coherent(*near);
    CHECK(with.opened() == before + 1);
    with.direct.execute("DEL", awaited());
  }
}

TEST_CASE("a near cache that comes after a lane was lost has the push connection opened again") {
  const support::must_end ends;
  rig with;
  load_held load{with.holder, awaited(), {1, "held"}};
  waiting_fetch waiting{with.at, awaited(), {2, "own"}};
  REQUIRE(eventually([&] { return with.awaited_leases() == 1; }));
  const std::string old = with.push();
  with.direct.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  REQUIRE(eventually([&] {  // it notices at its next call
    try {
      (void)with.at.redis.execute("PING");
      return true;
    } catch (const tn::error&) {
      return false;
    }
  }));
  CHECK(with.push() == old);
  tn::cache<kpi> near{with.at.redis, near_by()};
  REQUIRE(eventually([&] {
    (void)near.get(kept());
    return with.opened() == 2;
  }));
  with.check_coherent(near);
  CHECK(with.push() != old);
  (void)load.finish();
  CHECK(waiting.result()->unit == "held");
}

TEST_CASE("who waits for a lease is woken also when a near cache has opened the connection again") {
  const support::must_end ends;
  rig with;
  tn::cache<kpi> near{with.at.redis, near_by()};
  with.check_coherent(near);
  load_held load{with.holder, awaited(), {1, "held"}};
  waiting_fetch waiting{with.at, awaited(), {2, "own"}};
  REQUIRE(eventually([&] { return with.awaited_leases() == 1; }));
  const auto lanes = near.near_stats().flushes_lane_lost;
  for (const auto& each : support::connections(with.direct)) {
    if (each.tracks) with.direct.execute("CLIENT", "KILL", "ID", each.id);
  }
  REQUIRE(eventually([&] { return near.near_stats().flushes_lane_lost > lanes; }));
  REQUIRE(eventually([&] {
    (void)near.get(kept());
    return with.opened() == 2;
  }));
  with.check_coherent(near);
  REQUIRE(eventually([&] { return with.awaited_leases() == 1; }));
  CHECK(with.listening() == 1);
  (void)load.finish();
  CHECK(waiting.result()->unit == "held");
  CHECK(waiting.loads() == 0);
  CHECK(near.near_stats().flushes_push_lost == 0);
  CHECK(with.opened() == 2);
}

TEST_CASE("when the last near cache ends nobody listens to invalidations, and who waits for a lease is woken") {
  const support::must_end ends;
  rig with;
  load_held load{with.holder, awaited(), {1, "held"}};
  waiting_fetch waiting{with.at, awaited(), {2, "own"}};
  for (int round = 0; round < 3; ++round) {
    {
      tn::cache<kpi> first{with.at.redis, near_by()};
      {
        tn::cache<kpi> second{with.at.redis, near_by()};
        with.check_coherent(second);
      }
      with.check_coherent(first);
      CHECK(with.subscribed(invalidations) == 1);
    }
    REQUIRE(eventually([&] { return with.subscribed(invalidations) == 0; }));
  }
  REQUIRE(with.awaited_leases() == 1);
  (void)load.finish();
  CHECK(waiting.result()->unit == "held");
  CHECK(waiting.loads() == 0);
  CHECK(with.opened() == 1);
}

TEST_CASE("a near cache that follows another one before the server was told keeps its subscription") {
  const support::must_end ends;
  rig with;
  auto how = with.watched();
  how.executor = tn::inline_executor();
  site at{site::waiting(), how};
  load_held load{with.holder, awaited(), {1, "held"}};
  waiting_fetch waiting{at, awaited(), {2, "own"}};
  std::optional<tn::cache<kpi>> near{std::in_place, at.redis, near_by()};
  with.check_coherent(*near);
  const auto replace = [&]() -> tn::task<void> {
    auto asking = at.redis.async_execute("PING");
    (void)co_await std::move(asking);  // goes on on the I/O thread, which sends nothing meanwhile
    near.reset();
    near.emplace(at.redis, near_by());
  };
  for (int round = 0; round < 3; ++round) {
    tn::sync_wait(replace());
    with.check_coherent(*near);
  }
  CHECK(with.direct.execute("INFO", "commandstats").str().find("cmdstat_unsubscribe") == std::string::npos);
  (void)load.finish();
  CHECK(waiting.result()->unit == "held");
  CHECK(with.opened() == 1);
}

TEST_CASE("a lease that the server lets nobody wait for costs a near cache nothing") {
  const support::must_end ends;
  rig with;
  with.direct.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "resetchannels", "&__redis__:invalidate",
                      "+@all");
  auto how = with.watched();
  how.username = "app";
  how.password = "secret";
  site at{{.lease_wait = 50ms}, how};
  tn::cache<kpi> near{at.redis, near_by()};
  with.check_coherent(near);
  load_held load{with.holder, awaited(), {1, "held"}};
  for (int round = 0; round < 3; ++round) {
    CHECK(at.cache.fetch(awaited(), [] { return kpi{2, "own"}; })->unit == "own");
    with.check_coherent(near);
  }
  CHECK(near.near_stats().flushes_push_lost == 0);
  CHECK(with.heard.all(tn::events::near_refused).empty());
  CHECK(with.opened() == 1);
}

TEST_CASE("near caches that come and go on many threads leave each other the subscription") {
  const support::must_end ends;
  rig with;
  load_held load{with.holder, awaited(), {1, "held"}};
  waiting_fetch waiting{with.at, awaited(), {2, "own"}};
  for (int round = 0; round < 10; ++round) {
    std::vector<std::thread> all;
    for (int t = 0; t < 3; ++t) {
      all.emplace_back([&] {
        for (int i = 0; i < 50; ++i) const tn::cache<kpi> brief{with.at.redis, near_by()};
      });
    }
    for (std::thread& each : all) each.join();
    tn::cache<kpi> near{with.at.redis, near_by()};
    with.check_coherent(near);
  }
  (void)load.finish();
  CHECK(waiting.result()->unit == "held");
  CHECK(with.opened() == 1);
}

TEST_CASE("caches may end in the child of a fork, and their connection goes on in the parent") {
  const support::must_end ends;
  rig with;
  std::optional<tn::cache<kpi>> near{std::in_place, with.at.redis, near_by()};
  with.check_coherent(*near);
  with.check_woken();
  const int child = support::in_child([&] {
    near.reset();
    with.at.cache.~cache();
    return 0;
  });
  CHECK(child == 0);
  with.check_coherent(*near);
  with.check_woken();
  CHECK(with.opened() == 1);
  CHECK(near->near_stats().flushes_push_lost == 0);
}
