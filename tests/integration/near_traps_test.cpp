// The known traps of near caches that are kept current by CLIENT TRACKING, each with a test whose name begins with its
// number.
//
// Here: T4, T7, T9, T10, T11, T15, T17, T22, T24 (what would end the tracking of a shared connection), T26.
// In near_traps_server_test.cpp: T5, T18, T19, T27, T28. In near_refused_test.cpp: T10. In near_cache_test.cpp: T27.
// In near_bounds_test.cpp: T11, for values that end in Redis. In hang_up_watch_test.cpp: T13, for the lanes alone.
// In fault/near_traps_fault_test.cpp: T1 and T3, T6, T8, T18 and T21 during a read.
// In fault/near_traps_lost_test.cpp: T13, T14, T16, T24 (another server in the same place).
//
// Not here, because it cannot happen: T2 and T12 are about RESP3, T20 about BCAST (T7 shows that neither it nor NOLOOP
// is used), T23 about clusters, which are refused, and T25 about reads other than GET, which are not kept.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/near_rig.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::bare_near_by;
using support::check_kept_by_reading;
using support::comes_near;
using support::eventually;
using support::gateway_health;
using support::is_near;
using support::kpi;
using support::near_by;
using support::portfolio_kpi;
using support::text_at;
using support::tracks;
using rig = support::near_server;

}  // namespace

TEST_CASE("T4: changes inside of MULTI, and by scripts, are noticed as others are") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  const tn::key a = gateway_health(acme, "a");
  const tn::key b = gateway_health(acme, "b");
  with.keep(a, "old");
  with.keep(b, "old");
  {
    auto alone = with.direct.exclusive();
    (void)alone.execute("MULTI");
    (void)alone.execute("SET", a, "new");
    (void)alone.execute("SET", b, "new");
    CHECK(text_at(with.cache, a) == "old");
    (void)alone.execute("EXEC");
  }
  CHECK(with.gives(a, "new"));
  CHECK(with.gives(b, "new"));
  with.keep(a, "old");
  with.direct.execute("EVAL", "redis.call('GET', KEYS[1]); return redis.call('SET', KEYS[1], 'new')", 1, a);
  CHECK(with.gives(a, "new"));
}

TEST_CASE(
    "T7, T15, T20: who tracks does so for a connection that listens, of all keys of OPTIN reads, own writes too") {
  const support::must_end ends;
  support::need_redis();
  const tn::testing::redis_server server;
  const tn::client direct{rig::patient(server.unix_url())};
  support::watch_commands(direct);
  const tn::client redis{rig::patient(server.url())};
  tn::cache<std::string> cache{redis, bare_near_by()};
  REQUIRE(tracks(cache));
  const tn::key k = portfolio_kpi(acme);
  direct.execute("SET", k, "theirs");
  REQUIRE(comes_near(cache, k));
  const auto listening = support::the_one(direct, &support::connection_seen::listens);
  const auto tracking = support::the_one(direct, &support::connection_seen::tracks);
  CHECK(tracking.redirect == listening.id);
  CHECK_FALSE(tracking.broadcasts);
  const auto all = support::commands_seen(direct);
  const auto first = [&](std::string_view words) {
    return std::ranges::find_if(all, [&](const auto& each) { return each.words.starts_with(words); });
  };
  REQUIRE(first("CLIENT TRACKING") != all.end());
  CHECK(first("SUBSCRIBE __redis__:invalidate") < first("CLIENT TRACKING"));
  CHECK(first("CLIENT TRACKING")->words == "CLIENT TRACKING ON REDIRECT " + listening.id + " OPTIN");
}

TEST_CASE("T7: a value that this process wrote and read back is tracked anew, also after its own next write") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  const tn::key k = portfolio_kpi(acme);
  for (int round = 0; round < 10; ++round) {
    with.cache.put(k, "mine");
    REQUIRE(comes_near(with.cache, k));
    CHECK(text_at(with.cache, k) == "mine");
    with.set(k, "theirs");
    CHECK(with.gives(k, "theirs"));
  }
}

TEST_CASE("T9: every change of a key is noticed, not only the first") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  const tn::key k = portfolio_kpi(acme);
  for (int i = 0; i < 200; ++i) with.keep(k, std::to_string(i));
  CHECK(with.cache.near_stats().invalidations >= 199);
  CHECK(with.cache.near_stats().flushes_push_lost + with.cache.near_stats().flushes_lane_lost == 0);
}

TEST_CASE("T10: with many threads on one connection each CACHING YES stands right before the read that it is for") {
  const support::must_end ends{100s};
  rig with;
  REQUIRE(with.ready);
  constexpr int rows = 20;
  for (int i = 0; i < rows; ++i) with.set(gateway_health(acme, i), "old");
  for (int i = 0; i < rows; ++i) with.direct.execute("SET", "raw:" + std::to_string(i), "raw");
  std::vector<std::future<void>> running;
  std::atomic<bool> over{false};
  for (int t = 0; t < 4; ++t) {
    running.push_back(support::on_thread([&, t] {
      for (int i = 0; !over; ++i) {
        if (t % 2 == 0) {
          (void)with.cache.get(gateway_health(acme, i % rows));
        } else {
          (void)with.redis.execute("GET", "raw:" + std::to_string(i % rows));
        }
      }
    }));
  }
  for (int round = 1; round <= 20; ++round) {
    const std::string value = std::to_string(round);
    for (int i = 0; i < rows; ++i) with.set(gateway_health(acme, i), value);
    for (int i = 0; i < rows; ++i) CHECK(with.gives(gateway_health(acme, i), value));
    CHECK(with.tracked_keys() <= rows);  // none of the others
  }
  over = true;
  for (auto& each : running) each.get();
}

TEST_CASE("T11: a value that never ends in Redis ends in memory all the same") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  tn::cache<std::string> brief{with.redis, bare_near_by({.max_age = 50ms})};
  const tn::key k = portfolio_kpi(acme);
  with.set(k, "for ever");
  REQUIRE(with.direct.execute("PTTL", k).integer() == -1);
  REQUIRE(comes_near(brief, k));
  CHECK(eventually([&] { return !is_near(brief, k); }));
}

TEST_CASE("T17: messages are read when nobody calls") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  const tn::key k = portfolio_kpi(acme);
  with.keep(k, "old");
  const auto before = with.cache.near_stats();
  with.set(k, "new");
  CHECK(eventually([&] { return with.cache.near_stats().invalidations > before.invalidations; }));
  CHECK(eventually([&] { return with.cache.near_stats().values < before.values; }));
  CHECK(text_at(with.cache, k) == "new");
}

TEST_CASE("T22: that there is no value is forgotten when another process stores one") {
  support::need_redis();
  const tn::key k = portfolio_kpi(acme);
  support::other_process other{support::redis_rig::server().url(),
                               {[&](auto& cache, auto&) { cache.put(k, std::nullopt); },
                                [&](auto& cache, auto&) {
                                  cache.put(k, kpi{1, "there"});
                                }}};
  const support::must_end ends;
  const support::redis_rig redis;
  support::site one{near_by({.negative_ttl = 5min})};
  REQUIRE(tracks(one.cache));
  for (int round = 0; round < 5; ++round) {
    other.does(0);
    REQUIRE(eventually([&] {
      const auto found = one.cache.get(k);
      return found && found->absent() && found->source() == tn::source::near;
    }));
    other.does(1);
    CHECK(eventually([&] { return !one.cache.get(k).value().absent(); }));
  }
}

TEST_CASE("T24: what would end the tracking of a shared connection is refused") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  const tn::key k = portfolio_kpi(acme);
  with.keep(k, "old");
  CHECK_THROWS_AS(with.redis.execute("RESET"), tn::error);
  CHECK_THROWS_AS(with.redis.execute("HELLO", 3), tn::error);
  CHECK_THROWS_AS(with.redis.execute("AUTH", "x"), tn::error);
  CHECK_THROWS_AS(with.redis.execute("SELECT", 1), tn::error);
  CHECK_THROWS_AS(with.redis.execute("CLIENT", "TRACKING", "OFF"), tn::error);
  CHECK_THROWS_AS(with.redis.execute("CLIENT", "CACHING", "YES"), tn::error);
  CHECK_THROWS_AS(with.redis.execute("CLIENT", "REPLY", "OFF"), tn::error);
  with.set(k, "new");
  CHECK(with.gives(k, "new"));
}

TEST_CASE("T26: the same name is another value in another database, in another cache, and of another type") {
  const support::must_end ends;
  rig with;
  REQUIRE(with.ready);
  const tn::key k = portfolio_kpi(acme);
  auto elsewhere = rig::patient(with.server.url());
  elsewhere.database = 1;
  const tn::client other{elsewhere};
  tn::cache<std::string> there{other, bare_near_by()};
  tn::cache<kpi> typed{with.redis, near_by()};
  tn::cache<kpi> newer{with.redis, near_by({.version = 2})};
  REQUIRE(tracks(there));
  typed.put(k, {1, "typed"});
  other.execute("SET", k, "there");
  REQUIRE(comes_near(typed, k));
  REQUIRE(comes_near(there, k));
  REQUIRE(comes_near(with.cache, k));
  CHECK(typed.get(k).value()->unit == "typed");
  CHECK(text_at(there, k) == "there");
  CHECK(text_at(with.cache, k).starts_with("tn1 "));
  CHECK_FALSE(newer.get(k).has_value());
  CHECK_FALSE(newer.get(k).has_value());
  with.set(k, "here");
  CHECK(with.gives(k, "here"));
  CHECK(eventually([&] { return !typed.get(k).has_value(); }));
  CHECK(text_at(there, k) == "there");
  there.put(k, "changed");
  CHECK(text_at(there, k) == "changed");
  CHECK(text_at(with.cache, k) == "here");
}
