// What may happen between an invalidation that was queued and its delivery: loads, puts, and other invalidations.
//
// The queue is held up by a connection of coroutines that keeps its bytes, while the one of blocking calls works.

#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/undelivered_rig.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <chrono>
#include <cstdint>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::eventually;
using support::fetch_tagged;
using support::flow;
using support::kpi;
using support::old_load;
using support::outage;
using support::portfolio_kpi;
using support::reached;
using support::undelivered_rig;

constexpr std::array all_reached{reached::key, reached::tag, reached::tenant};

kpi fresh() { return {2, "new"}; }

/// Of the rig, whose coroutines are held.
void queue(undelivered_rig& rig, reached what, bool softly, const tn::key& k) {
  REQUIRE(tn::sync_wait(rig.async_invalidate(what, softly, k)) == tn::delivery::queued);
}

}  // namespace

TEST_CASE("what a load or a put brings to Redis before the delivery is not served by the process that queued") {
  const support::must_end ends;
  for (const reached what : all_reached) {
    undelivered_rig rig{1s};
    const tn::key k = portfolio_kpi(acme);
    rig.hold_coroutines(flow::to_server);
    old_load load{rig.cache, k};
    queue(rig, what, false, k);
    CHECK(load.finish().stored());
    CHECK(rig.others.get(k).value()->unit == "old");
    CHECK_FALSE(rig.cache.get(k).has_value());
    CHECK(rig.cache.fetch(k)->unit == "new");
    if (what != reached::tag) {  // which what is put does not have
      rig.cache.put(k, {1, "old"});
      CHECK(rig.others.get(k).has_value());
      CHECK_FALSE(rig.cache.get(k).has_value());
      CHECK_FALSE(rig.cache.fetch(k).stored());
    }

    rig.proxy.heal();
    CHECK(rig.delivered());
    CHECK_FALSE(rig.cache.get(k).has_value());
    CHECK_FALSE(rig.others.get(k).has_value());
    CHECK(eventually([&] { return rig.cache.fetch(k).stored(); }));
    CHECK(rig.others.get(k).value()->unit == "new");
  }
}

TEST_CASE("a ticket that was taken before an invalidation was queued stores nothing after its delivery") {
  const support::must_end ends;
  for (const reached what : {reached::key, reached::tenant}) {
    undelivered_rig rig;
    const tn::key k = portfolio_kpi(acme);
    const tn::load_ticket ticket = rig.others.begin(k);
    rig.begin(outage::unreachable);
    CHECK(rig.invalidate(what, false, k) == tn::delivery::queued);
    rig.end(outage::unreachable);
    CHECK(rig.delivered());
    CHECK_FALSE(rig.others.put(k, {1, "old"}, ticket));
    CHECK_FALSE(rig.cache.get(k).has_value());
  }
}

TEST_CASE("a load that began while an invalidation was queued is not joined after another was done") {
  const support::must_end ends;
  for (const reached what : all_reached) {
    undelivered_rig rig{1s};
    const tn::key k = portfolio_kpi(acme);
    rig.hold_coroutines(flow::to_server);
    queue(rig, what, false, k);
    old_load load{rig.cache, k};
    CHECK(rig.invalidate(what, false, k) == tn::delivery::done);
    CHECK(rig.inv.queued() == 1);
    CHECK(load.beside()->unit == "new");
    CHECK_FALSE(load.finish().stored());
  }
}

TEST_CASE("a load that began without Redis is not joined without it after an invalidation was done or delivered") {
  const support::must_end ends;
  for (const bool queued : {false, true}) {
    for (const reached what : all_reached) {
      undelivered_rig rig;
      const tn::key k = portfolio_kpi(acme);
      rig.begin(outage::unreachable);
      old_load load{rig.cache, k};
      if (queued) {
        CHECK(rig.invalidate(what, false, k) == tn::delivery::queued);
        rig.end(outage::unreachable);
        CHECK(rig.delivered());
      } else {
        rig.end(outage::unreachable);
        CHECK(eventually([&] { return rig.invalidate(what, false, k) == tn::delivery::done; }));
        CHECK(rig.delivered());
      }
      rig.begin(outage::unreachable);
      CHECK(load.beside()->unit == "new");
      CHECK_FALSE(load.finish().stored());
    }
  }
}

TEST_CASE("an invalidation that is queued again while it is being delivered is delivered again") {
  const support::must_end ends;
  undelivered_rig rig;
  tn::cache<kpi> hasty{rig.redis, {.redis_timeout = 300ms, .undelivered = tn::undelivered::queue}};
  const tn::key k = portfolio_kpi(acme);
  rig.hold_coroutines(flow::to_client);
  const auto executed = [&] { return rig.calls({"unlink"}); };
  CHECK(tn::sync_wait(hasty.async_invalidate(k)) == tn::delivery::queued);
  CHECK(eventually([&] { return executed() == 2; }));  // the call's own, and the queue's
  CHECK(tn::sync_wait(hasty.async_invalidate(k)) == tn::delivery::queued);
  CHECK(eventually([&] { return executed() == 3; }));
  CHECK(rig.inv.queued() == 1);
  rig.others.put(k, {1, "old"});
  rig.proxy.heal();
  CHECK(rig.delivered());
  CHECK(executed() == 4);
  CHECK(rig.told.sum(tn::events::invalidations_delivered, "count") == 1);
  CHECK_FALSE(rig.others.get(k).has_value());
}

TEST_CASE("an invalidation that is delivered more than once does not bring back what another one has ended") {
  const support::must_end ends{90s};
  for (const reached what : {reached::tag, reached::tenant}) {
    for (const bool softly : {false, true}) {
      undelivered_rig rig{200ms};
      const tn::key k = portfolio_kpi(acme);
      const auto executed = [&] { return rig.calls({"set", "evalsha", "eval"}); };
      rig.hold_coroutines(flow::to_client);
      queue(rig, what, softly, k);  // it reaches Redis, which cannot say so
      CHECK(eventually([&] { return fetch_tagged(rig.others, k, {1, "old"}).stored(); }));
      const tn::tag named{acme, undelivered_rig::tag_name};
      what == reached::tag ? rig.others_inv.invalidate(named) : rig.others_inv.invalidate(acme);
      const std::uint64_t before = executed();
      CHECK(eventually([&] { return executed() >= before + 2; }));  // sent again
      CHECK_FALSE(rig.others.get(k).has_value());
      CHECK(fetch_tagged(rig.others, k, fresh())->unit == "new");
      rig.proxy.heal();
      CHECK(rig.delivered());
    }
  }
}

TEST_CASE("an invalidation that is sent again within its call does not bring back what another one has ended") {
  const support::must_end ends;
  for (const bool by_coroutine : {false, true}) {
    for (const reached what : {reached::tag, reached::tenant}) {
      for (const bool softly : {false, true}) {
        undelivered_rig rig;
        const tn::key k = portfolio_kpi(acme);
        const tn::tag named{acme, undelivered_rig::tag_name};
        const auto executed = [&] { return rig.calls({"set", "evalsha", "eval"}); };
        if (by_coroutine) tn::sync_wait(rig.redis.async_execute("PING"));
        rig.redis.execute("PING");
        CHECK(rig.invalidate(what, softly, k) == tn::delivery::done);  // the script is known
        const std::uint64_t before = executed();
        rig.proxy.apply(flow::to_client, {.carries = support::faults::transport::holds}, support::reach::open);
        auto call = support::on_thread([&] {
          return by_coroutine ? tn::sync_wait(rig.async_invalidate(what, softly, k)) : rig.invalidate(what, softly, k);
        });
        CHECK(eventually([&] { return executed() > before; }));
        CHECK(fetch_tagged(rig.others, k, {1, "old"}).stored());
        what == reached::tag ? rig.others_inv.invalidate(named) : rig.others_inv.invalidate(acme);
        rig.proxy.reset();
        CHECK(call.get() == tn::delivery::done);
        CHECK_FALSE(rig.others.get(k).has_value());
        CHECK(fetch_tagged(rig.others, k, fresh())->unit == "new");
      }
    }
  }
}
