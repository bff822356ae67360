// Absent values, values that are put, tickets, and invalidations that hold.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/invalidator.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::eventually;
using support::gateway_health;
using support::kpi;
using support::portfolio_kpi;
using support::redis_rig;
using support::site;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}

}  // namespace

TEST_CASE("it is remembered for negative_ttl that a loader had nothing, and get tells that from a miss") {
  const redis_rig redis;
  int loads = 0;
  const tn::cache_options options{.ttl = 1h, .negative_ttl = 10min};
  tn::cache<kpi> cache{redis.client, options, [&]() -> std::optional<kpi> { return ++loads, std::nullopt; }};
  site two{options};
  CHECK_FALSE(cache.get(the_key()).has_value());
  const auto first = cache.fetch(the_key());
  CHECK(first.absent());
  CHECK(first.shared() == nullptr);
  CHECK(first.source() == tn::source::computed);
  CHECK(first.stored());
  const auto second = cache.fetch(the_key());
  CHECK(second.absent());
  CHECK(second.source() == tn::source::redis);
  CHECK(two.cache.fetch(the_key(), [] { return kpi{2, "not called"}; }).absent());
  const auto got = two.cache.get(the_key());
  REQUIRE(got.has_value());
  CHECK(got->absent());
  CHECK(loads == 1);
  CHECK(cache.stats().absent == 1);
  CHECK(cache.stats().hits == 1);
  CHECK(redis.pttl(the_key()) <= std::chrono::milliseconds{10min}.count());
}

TEST_CASE("without negative_ttl it is not remembered that there is nothing") {
  const redis_rig redis;
  int loads = 0;
  tn::cache<kpi> cache{redis.client, {}, [&]() -> std::optional<kpi> { return ++loads, std::nullopt; }};
  for (int i = 1; i <= 3; ++i) {
    const auto found = cache.fetch(the_key());
    CHECK(found.absent());
    CHECK(found.source() == tn::source::computed);
    CHECK_FALSE(found.stored());
    CHECK(loads == i);
  }
  CHECK_FALSE(cache.get(the_key()).has_value());
  CHECK(support::failure_of([&] { cache.put(the_key(), std::nullopt); }).code == tn::errc::invalid_option);
}

TEST_CASE("that there is nothing is forgotten after negative_ttl") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, {.ttl = 1h, .negative_ttl = 30ms}};
  cache.put(the_key(), std::nullopt);
  CHECK(eventually([&] { return !cache.fetch(the_key(), [] { return kpi{1}; }).absent(); }));
}

TEST_CASE("absent is put, replaced by a value, and cleared by an invalidation of the key and of the tenant") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, {.negative_ttl = 10min}};
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  const std::vector<std::function<void()>> ways{[&] { cache.invalidate(the_key()); }, [&] { cache.expire(the_key()); },
                                                [&] { inv.invalidate(acme); }, [&] { inv.expire(acme); }};
  for (const auto& clear : ways) {
    cache.put(the_key(), kpi{1});
    cache.put(the_key(), std::nullopt);
    REQUIRE(cache.get(the_key()).has_value());
    CHECK(cache.get(the_key())->absent());
    clear();
    CHECK_FALSE(cache.get(the_key()).has_value());
    CHECK(cache.fetch(the_key(), [] { return kpi{2}; })->property_count == 2);
  }
}

TEST_CASE("those who wait for a load that has nothing, in this and another process, get absent") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.negative_ttl = 10min})};
  site two{site::waiting({.negative_ttl = 10min})};
  support::gate inside;
  support::gate release;
  auto loading = support::on_thread([&] {
    return one.cache.fetch(the_key(), [&]() -> std::optional<kpi> {
      inside.open();
      release.wait();
      return std::nullopt;
    });
  });
  const support::opens_at_end cleanup{release};
  REQUIRE(inside.wait());
  support::waiting_fetch here{one, the_key(), {1, "not called"}};
  support::waiting_fetch there{two, the_key(), {2, "not called"}};
  release.open();
  CHECK(loading.get().absent());
  CHECK(here.result().absent());
  CHECK(there.result().absent());
}

TEST_CASE("a put in another process defeats a running load") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.negative_ttl = 10min})};
  site two{site::waiting({.negative_ttl = 10min})};
  for (const bool absent : {false, true}) {
    two.cache.invalidate(the_key());
    support::load_held load{one, the_key(), {1, "old"}};
    absent ? two.cache.put(the_key(), std::nullopt) : two.cache.put(the_key(), {2, "put"});
    const auto old = load.finish();
    CHECK(old->unit == "old");
    CHECK_FALSE(old.stored());
    const auto found = one.cache.get(the_key());
    REQUIRE(found.has_value());
    CHECK(found->absent() == absent);
    if (!absent) CHECK((*found)->unit == "put");
  }
}

TEST_CASE("those who wait for a load that a put defeats get a value, before that load ends") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two;
  site three;
  support::load_held load{one, the_key(), {1, "old"}};
  support::waiting_fetch waiting{two, the_key(), {2, "own"}};
  three.cache.put(the_key(), {3, "put"});
  CHECK(waiting.result()->unit == "put");
  CHECK(waiting.loads() == 0);
  CHECK_FALSE(load.finish().stored());
}

TEST_CASE("put with a ticket stores when nothing happened since, and tells") {
  const redis_rig redis;
  site one;
  site two;
  const tn::load_ticket ticket = one.cache.begin(the_key());
  CHECK_FALSE(two.cache.get(the_key()).has_value());
  CHECK(one.cache.put(the_key(), {1, "put"}, ticket));
  const auto found = two.cache.get(the_key());
  REQUIRE(found.has_value());
  CHECK((*found)->unit == "put");
  CHECK(redis.pttl(the_key()) > 0);
}

TEST_CASE("a ticket is worth nothing after an invalidation, a put or another ticket, from any process") {
  const redis_rig redis;
  site one;
  site two;
  const std::vector<std::pair<std::string, std::function<void()>>> ways{
      {"invalidate", [&] { two.cache.invalidate(the_key()); }},
      {"expire", [&] { two.cache.expire(the_key()); }},
      {"put",
       [&] {
         two.cache.put(the_key(), {2, "newer"});
       }},
      {"begin", [&] { (void)two.cache.begin(the_key()); }},
      {"invalidate and load",
       [&] {
         two.cache.invalidate(the_key());
         (void)two.cache.fetch(the_key(), [] { return kpi{2, "newer"}; });
       }},
      {"FLUSHALL", [&] { redis.client.execute("FLUSHALL"); }},
  };
  for (const bool there_before : {false, true}) {
    for (const auto& [name, overtake] : ways) {
      CAPTURE(name, there_before);
      two.cache.invalidate(the_key());
      if (there_before) two.cache.put(the_key(), {0, "before"});
      const tn::load_ticket ticket = one.cache.begin(the_key());
      overtake();
      CHECK_FALSE(one.cache.put(the_key(), {1, "old"}, ticket));
      const auto found = two.cache.get(the_key());
      CHECK((!found || (*found)->unit != "old"));
    }
  }
}

TEST_CASE("a ticket is worth nothing after an invalidation of its tenant, and put says so") {
  const redis_rig redis;
  site one;
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  for (const bool softly : {false, true}) {
    CAPTURE(softly);
    const tn::load_ticket ticket = one.cache.begin(the_key());
    softly ? inv.expire(acme) : inv.invalidate(acme);
    CHECK_FALSE(one.cache.put(the_key(), {1, "old"}, ticket));
    CHECK_FALSE(one.cache.get(the_key()).has_value());
  }
}

TEST_CASE("an invalidation of another key does not touch a ticket") {
  const redis_rig redis;
  site one;
  const tn::load_ticket ticket = one.cache.begin(the_key());
  one.cache.invalidate(gateway_health(acme, 1));
  one.cache.put(gateway_health(acme, 2), {2});
  tn::invalidator{redis.client, tn::catalog{portfolio_kpi}}.invalidate(tn::tenant_id{"globex"});
  CHECK(one.cache.put(the_key(), {1, "put"}, ticket));
  CHECK(one.cache.get(the_key()).has_value());
}

TEST_CASE("a ticket defeats a load that began before it, and what it puts is served") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two;
  support::load_held load{one, the_key(), {1, "old"}};
  const tn::load_ticket ticket = two.cache.begin(the_key());
  CHECK(two.cache.put(the_key(), {2, "put"}, ticket));
  CHECK_FALSE(load.finish().stored());
  CHECK(one.cache.get(the_key()).value()->unit == "put");
}

TEST_CASE("an invalidation that holds keeps everything from being stored meanwhile") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.stale_for = 1h})};
  site two{site::waiting({.stale_for = 1h})};
  one.cache.put(the_key(), {0, "old"});
  support::load_held load{one, gateway_health(acme, 1), {1, "running"}};
  one.cache.invalidate(the_key(), {.hold = 60s});
  one.cache.invalidate(gateway_health(acme, 1), {.hold = 60s});
  CHECK_FALSE(load.finish().stored());
  for (site* each : {&one, &two, &one}) {
    const auto own = each->cache.fetch(the_key(), [] { return kpi{1, "own"}; });
    CHECK(own->unit == "own");
    CHECK(own.source() == tn::source::computed);
    CHECK_FALSE(own.stored());
    CHECK(own.failure() == nullptr);
  }
  const tn::load_ticket ticket = two.cache.begin(the_key());
  CHECK_FALSE(two.cache.put(the_key(), {2, "ticket"}, ticket));
  CHECK_FALSE(one.cache.get(the_key()).has_value());
  CHECK_FALSE(one.cache.get(gateway_health(acme, 1)).has_value());
  one.cache.put(gateway_health(acme, 2), {4, "another key"});
  CHECK(two.cache.get(gateway_health(acme, 2)).has_value());
}

TEST_CASE("a load that began before an invalidation stores nothing, also when that no longer holds at its end") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  support::load_held load{one, the_key(), {1, "old"}};
  one.cache.invalidate(the_key(), {.hold = 1h});
  REQUIRE(redis.client.execute("DEL", "{" + the_key().str() + "}#hold").integer() == 1);  // as when its time is over
  CHECK_FALSE(load.finish().stored());
  CHECK_FALSE(one.cache.get(the_key()).has_value());
}

TEST_CASE("values are stored again when an invalidation no longer holds") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  one.cache.invalidate(the_key(), {.hold = 60ms});
  CHECK(eventually([&] { return one.cache.fetch(the_key(), [] { return kpi{1}; }).stored(); }));
  one.cache.invalidate(the_key(), {.hold = 60s});
  CHECK_FALSE(one.cache.fetch(the_key(), [] { return kpi{1}; }).stored());
}

TEST_CASE("what is begun in a hold is not stored, also when the hold is over by then") {
  const redis_rig redis;
  site one;
  one.cache.invalidate(the_key(), {.hold = 1h});
  const auto ticket = one.cache.begin(the_key());
  REQUIRE(redis.client.execute("DEL", "{" + the_key().str() + "}#hold").integer() == 1);
  CHECK_FALSE(one.cache.put(the_key(), kpi{1, "of a replica"}, ticket));
  CHECK_FALSE(one.cache.get(the_key()).has_value());
}

TEST_CASE("a ticket taken after a failed load is good") {
  const redis_rig redis;
  site one;
  CHECK(
      support::thrown_by([&] { return one.cache.fetch(the_key(), []() -> kpi { throw std::runtime_error{"no"}; }); }));
  const auto ticket = one.cache.begin(the_key());
  CHECK(one.cache.put(the_key(), kpi{1, "new"}, ticket));
  CHECK(one.cache.get(the_key()).has_value());
}

TEST_CASE("a loader is not shown a value that was invalidated after it was seen") {
  const redis_rig redis;
  site one{{.stale_for = 1h}};
  one.cache.put(the_key(), {1, "old"});
  one.cache.expire(the_key());
  const auto shown = [&](bool invalidated) {
    bool seen = false;
    (void)one.cache.fetch(the_key(), [&](const tn::key&, tn::load_context& load) {
      seen = load.previous<kpi>() != nullptr;
      load.do_not_store();
      return kpi{2, "new"};
    });
    return seen != invalidated;
  };
  CHECK(shown(false));
  one.cache.invalidate(the_key());
  CHECK(shown(true));
}
