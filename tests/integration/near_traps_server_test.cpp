// Traps of near caches (the table is in near_traps_test.cpp): what the server does of itself, and to all keys at once.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/near_rig.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::comes_near;
using support::eventually;
using support::gateway_health;
using support::kpi;
using support::near_by;
using support::portfolio_kpi;
using support::text_at;
using rig = support::near_server;

}  // namespace

TEST_CASE("T5: a value that the server evicts to make room leaves memory as well") {
  const support::must_end ends;
  rig with{{"--maxmemory", "4mb", "--maxmemory-policy", "allkeys-random"}};
  REQUIRE(with.ready);
  const tn::key k = portfolio_kpi(acme);
  with.keep(k, "old");
  int filled = 0;
  REQUIRE(eventually([&] {
    for (int i = 0; i < 50; ++i)
      with.direct.execute("SET", "filler:" + std::to_string(++filled), std::string(1000, 'x'));
    return with.direct.execute("EXISTS", k).integer() == 0;
  }));
  CHECK(with.gives(k, "nothing"));
}

TEST_CASE("T18: FLUSHALL and FLUSHDB drop everything, and what is written afterwards is kept again") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  std::uint64_t flushes = 0;
  for (const std::vector<std::string>& way :
       {std::vector<std::string>{"FLUSHALL"}, {"FLUSHDB"}, {"FLUSHALL", "ASYNC"}}) {
    CAPTURE(way);
    for (int i = 0; i < 20; ++i) with.keep(gateway_health(acme, i), "old");
    way.size() == 1 ? with.direct.execute(way[0]) : with.direct.execute(way[0], way[1]);
    CHECK(eventually([&] { return with.cache.near_stats().flushes_by_server > flushes; }));
    flushes = with.cache.near_stats().flushes_by_server;
    const auto hits = with.cache.near_stats().hits;
    for (int i = 0; i < 20; ++i) CHECK(text_at(with.cache, gateway_health(acme, i)) == "nothing");
    CHECK(with.cache.near_stats().hits == hits);
  }
  CHECK(with.cache.near_stats().flushes_push_lost == 0);
  CHECK(with.cache.near_stats().tracking);
}

TEST_CASE("T18: after SWAPDB, of which the server says nothing, values are given for max_age at most") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  tn::cache<std::string> brief{with.redis, support::bare_near_by({.max_age = 300ms})};
  const tn::key k = portfolio_kpi(acme);
  with.set(k, "old");
  REQUIRE(comes_near(brief, k));
  with.direct.execute("SWAPDB", 0, 1);
  const auto swapped = std::chrono::steady_clock::now();
  CHECK(eventually([&] {
    const auto now = std::chrono::steady_clock::now();
    const bool old = text_at(brief, k) == "old";
    if (old) CHECK(now <= swapped + 300ms);
    return !old;
  }));
}

TEST_CASE("T19: when the server's table of tracked keys is full, values leave memory and none is wrong") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  constexpr int rows = 50;
  for (int i = 0; i < rows; ++i) with.keep(gateway_health(acme, i), "old");
  with.direct.execute("CONFIG", "SET", "tracking-table-max-keys", 1);
  CHECK(eventually([&] {
    for (int i = 0; i < rows; ++i) CHECK(text_at(with.cache, gateway_health(acme, i)) == "old");
    return with.cache.near_stats().invalidations >= rows;
  }));
  for (int round = 0; round < 5; ++round) {
    const std::string value = std::to_string(round);
    for (int i = 0; i < rows; ++i) with.set(gateway_health(acme, i), value);
    for (int i = 0; i < rows; ++i) CHECK(with.gives(gateway_health(acme, i), value));
  }
  CHECK(with.cache.near_stats().tracking);
}

TEST_CASE("T28: a life that another process shortens is shortened in memory, and one that it ends is ended") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  const tn::key k = portfolio_kpi(acme);
  with.keep(k, "old");
  with.direct.execute("PEXPIRE", k, 400);
  CHECK(with.gives(k, "nothing"));
  with.keep(k, "old");
  with.direct.execute("PEXPIRE", k, -1);
  CHECK(with.gives(k, "nothing"));
  with.direct.execute("SET", k, "old", "EX", 100);
  REQUIRE(comes_near(with.cache, k));
  const auto before = with.cache.near_stats().invalidations;
  with.direct.execute("PERSIST", k);
  CHECK(eventually([&] { return with.cache.near_stats().invalidations > before; }));
  CHECK(text_at(with.cache, k) == "old");
}

TEST_CASE("T27: after a flush one caller loads a value, however many ask") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  std::atomic<int> loads{0};
  tn::cache<kpi> cache{with.redis, support::site::waiting(near_by())};
  const tn::key k = portfolio_kpi(acme);
  const auto fetch = [&] {
    return cache.fetch(k, [&] {
      ++loads;
      std::this_thread::sleep_for(100ms);  // what a query takes
      return kpi{1};
    });
  };
  (void)fetch();
  REQUIRE(comes_near(cache, k));
  const auto before = cache.near_stats().flushes_by_server;
  with.direct.execute("FLUSHALL");
  REQUIRE(eventually([&] { return cache.near_stats().flushes_by_server > before; }));
  std::vector<std::future<tn::cached<kpi>>> all;
  for (int t = 0; t < 16; ++t) all.push_back(support::on_thread(fetch));
  for (auto& each : all) CHECK(each.get()->property_count == 1);
  CHECK(loads == 2);
}
