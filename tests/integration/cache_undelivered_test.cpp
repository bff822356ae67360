// Invalidations while Redis is away: they throw, or are queued, hold here at once, and reach Redis when it is back.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/undelivered_rig.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::eventually;
using support::fetch_tagged;
using support::gateway_health;
using support::globex;
using support::kpi;
using support::old_load;
using support::outage;
using support::portfolio_kpi;
using support::reached;
using support::undelivered_rig;

constexpr std::array all_reached{reached::key, reached::tag, reached::tenant};
constexpr std::array all_outages{outage::unreachable, outage::frozen, outage::takes_no_writes};

std::string described(reached what, bool softly) {
  constexpr std::array names{"a key", "a tag", "a tenant"};
  return std::string{softly ? "expire of " : "invalidate of "} + names[static_cast<std::size_t>(what)];
}

struct load_fault {};
kpi no_value() { throw load_fault{}; }

/// Nothing where it threw.
std::optional<tn::delivery> outcome_of(const auto& call) {
  try {
    return call();
  } catch (const tn::error&) {
    return std::nullopt;
  }
}

/// A value that had to be loaded, because an invalidation is queued.
void check_apart(const tn::cached<kpi>& found) {
  CHECK(found->unit == "new");
  CHECK(found.source() == tn::source::computed);
  CHECK_FALSE(found.stored());
  REQUIRE(found.failure() != nullptr);
  CHECK(found.failure()->code() == tn::errc::unreachable);
}

}  // namespace

TEST_CASE("an invalidation that Redis takes is done, with undelivered::queue too") {
  undelivered_rig rig;
  for (const reached what : all_reached) {
    for (const bool softly : {false, true}) {
      INFO(described(what, softly));
      CHECK(rig.invalidate(what, softly, portfolio_kpi(acme)) == tn::delivery::done);
      CHECK(tn::sync_wait(rig.async_invalidate(what, softly, portfolio_kpi(acme))) == tn::delivery::done);
    }
  }
  CHECK(rig.cache.invalidate(portfolio_kpi(acme), {.hold = 1ms}) == tn::delivery::done);
  CHECK(rig.inv.queued() == 0);
  CHECK(rig.told.all(tn::events::invalidation_queued).empty());
}

TEST_CASE("an invalidation throws while Redis is away, and nothing is queued") {
  const support::must_end ends;
  for (const outage how : all_outages) {
    undelivered_rig rig{how == outage::frozen ? 100ms : 20s};
    tn::cache<kpi> failing{rig.redis, {}};
    const tn::invalidator inv{rig.redis, rig.keys};
    const tn::key k = portfolio_kpi(acme);
    const tn::tag named{acme, "a"};
    rig.begin(how);
    CHECK_THROWS_AS(failing.invalidate(k), tn::error);
    CHECK_THROWS_AS(failing.invalidate(k, {.hold = 1s}), tn::error);
    CHECK_THROWS_AS(failing.expire(k), tn::error);
    CHECK_THROWS_AS(inv.invalidate(acme), tn::error);
    CHECK_THROWS_AS(inv.invalidate(named), tn::error);
    CHECK_THROWS_AS(inv.expire(acme), tn::error);
    CHECK_THROWS_AS(inv.expire(named), tn::error);
    CHECK_THROWS_AS(tn::sync_wait(failing.async_invalidate(k)), tn::error);
    CHECK_THROWS_AS(tn::sync_wait(failing.async_expire(k)), tn::error);
    CHECK_THROWS_AS(tn::sync_wait(inv.async_invalidate(acme)), tn::error);
    CHECK_THROWS_AS(tn::sync_wait(inv.async_invalidate(named)), tn::error);
    CHECK_THROWS_AS(tn::sync_wait(inv.async_expire(acme)), tn::error);
    CHECK_THROWS_AS(tn::sync_wait(inv.async_expire(named)), tn::error);
    CHECK(inv.queued() == 0);
    rig.end(how);
  }
}

TEST_CASE("with undelivered::queue each kind of invalidation is queued while Redis is away") {
  const support::must_end ends;
  for (const outage how : all_outages) {
    undelivered_rig rig{how == outage::frozen ? 100ms : 20s};
    const tn::key k = portfolio_kpi(acme);
    rig.begin(how);
    std::size_t different = 0;
    for (const reached what : all_reached) {
      for (const bool softly : {false, true}) {
        INFO(described(what, softly));
        CHECK(rig.invalidate(what, softly, k) == tn::delivery::queued);
        CHECK(rig.inv.queued() == ++different);
        CHECK(tn::sync_wait(rig.async_invalidate(what, softly, k)) == tn::delivery::queued);
        CHECK(rig.inv.queued() == different);
      }
    }
    const tn::invalidator another{rig.redis, rig.keys};
    CHECK(another.queued() == different);  // of all of the client
    rig.end(how);
    CHECK(rig.delivered());
  }
}

TEST_CASE("what a queued invalidation concerns is a miss for all caches of its client, and nothing else is") {
  const support::must_end ends;
  for (const reached what : all_reached) {
    for (const bool softly : {false, true}) {
      INFO(described(what, softly));
      undelivered_rig rig;
      tn::cache<kpi> second{rig.redis, {.stale_for = 1h}, [] { return kpi{2, "new"}; }};
      const tn::key k = gateway_health(acme, 1);
      const tn::key sibling = gateway_health(acme, 2);
      const tn::key foreign = gateway_health(globex, 1);
      for (const tn::key& each : {k, sibling, foreign}) CHECK(fetch_tagged(rig.others, each, {1, "old"}).stored());
      CHECK(rig.cache.get(k).has_value());
      rig.begin(outage::takes_no_writes);
      CHECK(rig.invalidate(what, softly, k) == tn::delivery::queued);
      for (tn::cache<kpi>* each : {&rig.cache, &second}) {
        CHECK_FALSE(each->get(k).has_value());
        CHECK_FALSE(tn::sync_wait(each->async_get(k)).has_value());
        check_apart(each->fetch(k));
        check_apart(tn::sync_wait(each->async_fetch(k)));
        CHECK(each->fetch(foreign).source() == tn::source::redis);
        const std::vector<tn::key> keys{foreign, k, sibling};
        const auto found = each->fetch_many(keys);
        CHECK(found[0].source() == tn::source::redis);
        check_apart(found[1]);
        if (what == reached::key) {
          CHECK(found[2].source() == tn::source::redis);
          CHECK(each->get(sibling).has_value());
        } else {
          check_apart(found[2]);
          check_apart(each->fetch(sibling));
        }
        CHECK(tn::sync_wait(each->async_fetch_many(keys))[1]->unit == "new");
        CHECK_THROWS_AS(each->fetch(k, no_value), load_fault);  // there is no stale copy either
      }
      CHECK(rig.inv.queued() == 1);

      rig.end(outage::takes_no_writes);
      CHECK(rig.delivered());
      CHECK(rig.cache.fetch(k).stored());
      CHECK(rig.cache.fetch(k).source() == tn::source::redis);
      CHECK(rig.others.get(k).value()->unit == "new");
    }
  }
}

TEST_CASE("a fetch that begins after an invalidation was queued joins no load that began before") {
  const support::must_end ends;
  for (const reached what : all_reached) {
    INFO(described(what, false));
    undelivered_rig rig;
    const tn::key k = portfolio_kpi(acme);
    old_load leased{rig.cache, k};
    rig.begin(outage::unreachable);
    CHECK(rig.invalidate(what, false, k) == tn::delivery::queued);
    check_apart(leased.beside());
    old_load unleased{rig.cache, k};
    CHECK(rig.invalidate(what, false, k) == tn::delivery::queued);
    check_apart(unleased.beside());

    rig.end(outage::unreachable);
    CHECK(rig.delivered());
    CHECK_FALSE(leased.finish().stored());
    CHECK_FALSE(unleased.finish().stored());
    CHECK(eventually([&] { return rig.cache.fetch(k).stored(); }));
    CHECK(rig.others.get(k).value()->unit == "new");
  }
}

TEST_CASE("fetches that begin after an invalidation was queued share a load") {
  const support::must_end ends;
  undelivered_rig rig;
  const tn::key k = portfolio_kpi(acme);
  rig.begin(outage::unreachable);
  CHECK(rig.cache.invalidate(k) == tn::delivery::queued);
  old_load first{rig.cache, k};
  CHECK(first.beside()->unit == "old");
  CHECK(rig.cache.stats().waits == 1);
}

TEST_CASE("what was queued reaches other processes when Redis is back, hard and soft as it was meant") {
  const support::must_end ends{90s};
  for (const outage how : all_outages) {
    for (const reached what : all_reached) {
      for (const bool softly : {false, true}) {
        INFO(described(what, softly) << " in outage " << static_cast<int>(how));
        undelivered_rig rig{how == outage::frozen ? 300ms : 20s};
        const tn::key k = gateway_health(acme, 1);
        const tn::key sibling = gateway_health(acme, 2);
        const tn::key foreign = gateway_health(globex, 1);
        CHECK(fetch_tagged(rig.others, k, {1, "old"}).stored());
        for (const tn::key& each : {sibling, foreign}) rig.others.put(each, {1, "old"});
        rig.begin(how);
        CHECK(rig.invalidate(what, softly, k) == tn::delivery::queued);
        rig.end(how);
        CHECK(rig.delivered());
        CHECK_FALSE(rig.others.get(k).has_value());
        if (softly) {
          const auto kept = rig.others.fetch(k, no_value);
          CHECK(kept.source() == tn::source::stale);
          CHECK(kept->unit == "old");
        } else {
          CHECK_THROWS_AS(rig.others.fetch(k, no_value), load_fault);
        }
        CHECK(rig.others.get(sibling).has_value() == (what != reached::tenant));
        CHECK(rig.others.get(foreign).has_value());
        CHECK(eventually([&] { return rig.cache.fetch(k).stored(); }));
        CHECK(rig.cache.fetch(k).source() == tn::source::redis);
        CHECK(rig.others.fetch(k, no_value)->unit == "new");
      }
    }
  }
}

TEST_CASE("hard and soft invalidations of the same are both delivered, in any order") {
  for (const reached what : all_reached) {
    for (const bool soft_first : {false, true}) {
      INFO(described(what, soft_first));
      undelivered_rig rig;
      const tn::key k = portfolio_kpi(acme);
      CHECK(fetch_tagged(rig.others, k, {1, "old"}).stored());
      rig.begin(outage::unreachable);
      for (const bool softly : {soft_first, !soft_first, soft_first}) (void)rig.invalidate(what, softly, k);
      CHECK(rig.inv.queued() == 2);
      CHECK(rig.fails_again());
      rig.end(outage::unreachable);
      CHECK(rig.delivered());
      CHECK_THROWS_AS(rig.others.fetch(k, no_value), load_fault);
    }
  }
}

TEST_CASE("a hold lasts as long as it was asked for, whatever comes for the key after it") {
  undelivered_rig rig;
  const tn::key k = portfolio_kpi(acme);
  CHECK(rig.cache.invalidate(k, {.hold = 1h}) == tn::delivery::done);
  CHECK(rig.cache.invalidate(k, {.hold = 1ms}) == tn::delivery::done);
  CHECK(rig.elsewhere.execute("PTTL", k.companion("hold")).integer() > std::chrono::milliseconds{30min}.count());
  CHECK_FALSE(rig.cache.fetch(k).stored());
}

TEST_CASE("a hold that was queued is delivered, whatever is queued for the key after it") {
  undelivered_rig rig;
  const tn::key k = portfolio_kpi(acme);
  rig.others.put(k, {1, "old"});
  rig.begin(outage::unreachable);
  CHECK(rig.cache.invalidate(k, {.hold = 1h}) == tn::delivery::queued);
  CHECK(rig.cache.invalidate(k) == tn::delivery::queued);
  CHECK(rig.cache.invalidate(k, {.hold = 1ms}) == tn::delivery::queued);
  CHECK(rig.fails_again());
  rig.end(outage::unreachable);
  CHECK(rig.delivered());
  CHECK_FALSE(rig.others.get(k).has_value());
  CHECK(rig.elsewhere.execute("PTTL", k.companion("hold")).integer() > std::chrono::milliseconds{30min}.count());
  CHECK_FALSE(rig.others.fetch(k, [] { return kpi{2, "new"}; }).stored());
}

TEST_CASE("a server that cannot save, or has too few replicas, is away too") {
  const support::must_end ends;
  for (const bool saves : {true, false}) {
    undelivered_rig rig;
    const tn::key k = portfolio_kpi(acme);
    rig.others.put(k, {1, "old"});
    if (saves) {
      rig.elsewhere.execute("CONFIG", "SET", "min-replicas-to-write", 1);
    } else {
      const std::string directory = rig.elsewhere.execute("CONFIG", "GET", "dir")[1].str();
      std::filesystem::create_directory(directory + "/dump.rdb");  // where its file would have to be
      rig.elsewhere.execute("CONFIG", "SET", "save", "3600 1");
      rig.elsewhere.execute("BGSAVE");
      REQUIRE(eventually([&] {
        return rig.elsewhere.execute("INFO", "persistence").str().find("bgsave_status:err") != std::string::npos;
      }));
    }
    for (const reached what : all_reached) {
      for (const bool softly : {false, true}) {
        INFO(described(what, softly));
        CHECK(outcome_of([&] { return rig.invalidate(what, softly, k); }) == tn::delivery::queued);
      }
    }
    CHECK_FALSE(rig.cache.get(k).has_value());
    const auto sent = support::lane_of(rig.redis).commands;
    CHECK(eventually([&] { return support::lane_of(rig.redis).commands > sent + 12; }));  // refused more than once
    CHECK(rig.inv.queued() == 6);
    rig.elsewhere.execute("CONFIG", "SET", "min-replicas-to-write", 0, "stop-writes-on-bgsave-error", "no");
    CHECK(rig.delivered());
    CHECK(rig.told.all(tn::events::invalidations_dropped).empty());
    CHECK_FALSE(rig.others.get(k).has_value());
  }
}
