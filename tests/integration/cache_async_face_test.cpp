// What is done to one key without a loader, by coroutines: as by threads.

#include "support/async_calls.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <functional>
#include <optional>
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
using tn::sync_wait;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}

}  // namespace

TEST_CASE("async_get gives the fresh value, absent or nothing, as get does, and never a stale copy") {
  const support::must_end ends;
  const redis_rig redis;
  site one{{.stale_for = 1h, .negative_ttl = 10min}};
  const auto same = [&] {
    const auto by_thread = one.cache.get(the_key());
    const auto by_coroutine = sync_wait(one.cache.async_get(the_key()));
    CHECK(by_thread.has_value() == by_coroutine.has_value());
    if (by_thread && by_coroutine) {
      CHECK(by_thread->absent() == by_coroutine->absent());
      CHECK(by_thread->source() == by_coroutine->source());
      CHECK(by_thread->computed_at() == by_coroutine->computed_at());
      CHECK(by_thread->stored() == by_coroutine->stored());
    }
    return by_coroutine;
  };
  CHECK_FALSE(same().has_value());
  one.cache.put(the_key(), {1, "put"});
  CHECK(**same() == kpi{1, "put"});
  CHECK(same()->source() == tn::source::redis);
  one.cache.put(the_key(), std::nullopt);
  CHECK(same().value().absent());
  one.cache.put(the_key(), {1, "put"});
  one.cache.expire(the_key());
  CHECK_FALSE(same().has_value());
  redis.set(the_key(), "nonsense");
  CHECK_FALSE(same().has_value());
  redis.client.execute("DEL", the_key());
  redis.client.execute("LPUSH", the_key(), "x");
  CHECK_FALSE(same().has_value());
  const tn::cache_stats stats = one.cache.stats();
  CHECK(stats.hits == 6);
  CHECK(stats.absent == 2);
  CHECK(stats.misses == 8);
  CHECK(stats.undecodable == 2);
  CHECK(stats.wrong_type == 2);
  CHECK(stats.loads == 0);
}

TEST_CASE("async_get looks at the tags of a value, as get does") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  (void)one.cache.fetch(the_key(), [](const tn::key&, tn::load_context& load) {
    load.tag("t");
    return kpi{1, "tagged"};
  });
  inv.invalidate(tn::tag{acme, "another"});
  CHECK(sync_wait(one.cache.async_get(the_key())).has_value());
  inv.invalidate(tn::tag{acme, "t"});
  CHECK_FALSE(sync_wait(one.cache.async_get(the_key())).has_value());
}

TEST_CASE("async_put stores a value that all find, and defeats loads that are under way") {
  const support::must_end ends;
  const redis_rig redis;
  site one{{.jitter = 0, .stale_for = 1h}};
  site two{{.stale_for = 1h}};
  support::load_held load{two, the_key(), {1, "old"}};
  sync_wait(one.cache.async_put(the_key(), {2, "put"}));
  CHECK_FALSE(load.finish().stored());
  CHECK(two.cache.get(the_key()).value()->unit == "put");
  CHECK(one.cache.stats().stores == 1);
  const auto left = redis.pttl(the_key());
  CHECK(left > std::chrono::milliseconds{1h}.count());
  CHECK(left <= std::chrono::milliseconds{1h + 5min}.count());
}

TEST_CASE("async_put of no value is remembered for negative_ttl, and refused without one") {
  const support::must_end ends;
  const redis_rig redis;
  site one{{.ttl = 1h, .negative_ttl = 10min}};
  sync_wait(one.cache.async_put(the_key(), std::nullopt));
  CHECK(one.cache.get(the_key()).value().absent());
  CHECK(redis.pttl(the_key()) <= std::chrono::milliseconds{10min}.count());
  site two;
  CHECK(support::failure_of([&] { sync_wait(two.cache.async_put(the_key(), std::nullopt)); }).code ==
        tn::errc::invalid_option);
  CHECK(two.cache.stats().store_failures == 0);
}

TEST_CASE("a value that async_put cannot write is an encode failure, and nothing is stored") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  CHECK(support::failure_of([&] {
          sync_wait(one.cache.async_put(the_key(), kpi{1, "\xff"}));
        }).code == tn::errc::encode);
  CHECK(one.cache.stats().encode_failures == 1);
  CHECK(one.cache.stats().stores == 0);
  CHECK_FALSE(redis.holds(the_key()));
}

TEST_CASE("a ticket of async_begin is good for async_put and put, and one of begin for async_put") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two;
  const auto by_coroutine = sync_wait(one.cache.async_begin(the_key()));
  CHECK(sync_wait(one.cache.async_put(the_key(), {1, "both"}, by_coroutine)));
  CHECK(two.cache.get(the_key()).value()->unit == "both");
  CHECK_FALSE(sync_wait(one.cache.async_put(the_key(), {2, "twice"}, by_coroutine)));
  CHECK(one.cache.put(the_key(), {3, "put"}, sync_wait(one.cache.async_begin(the_key()))));
  CHECK(sync_wait(two.cache.async_put(the_key(), {4, "begin"}, one.cache.begin(the_key()))));
  const auto found = one.cache.get(the_key()).value();
  CHECK(found->unit == "begin");
  CHECK(found.computed_at().has_value());
  CHECK(one.cache.stats().stores == 2);
  CHECK(one.cache.stats().fenced == 1);
}

TEST_CASE(
    "a ticket of async_begin is worth nothing after an invalidation, a put or another ticket, nor for another key") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two;
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  const std::vector<std::pair<std::string, std::function<void()>>> ways{
      {"async_invalidate", [&] { (void)sync_wait(two.cache.async_invalidate(the_key())); }},
      {"async_expire", [&] { (void)sync_wait(two.cache.async_expire(the_key())); }},
      {"async_put",
       [&] {
         sync_wait(two.cache.async_put(the_key(), {2, "newer"}));
       }},
      {"async_begin", [&] { (void)sync_wait(two.cache.async_begin(the_key())); }},
      {"tenant", [&] { (void)sync_wait(inv.async_invalidate(acme)); }},
  };
  for (const auto& [name, overtake] : ways) {
    CAPTURE(name);
    auto ticket = sync_wait(one.cache.async_begin(the_key()));
    overtake();
    CHECK_FALSE(sync_wait(one.cache.async_put(the_key(), {1, "old"}, std::move(ticket))));
    const auto found = one.cache.get(the_key());
    CHECK((!found || (*found)->unit != "old"));
  }
  const auto ticket = one.cache.begin(the_key());
  CHECK(support::failure_of([&] { (void)sync_wait(one.cache.async_put(gateway_health(acme, 1), {1}, ticket)); }).code ==
        tn::errc::invalid_option);
}

TEST_CASE("async_invalidate removes the value and its stale copy, and the right of loads to store theirs") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.stale_for = 1h, .failure_throttle = 0ms})};
  site two{site::waiting({.stale_for = 1h, .failure_throttle = 0ms})};
  one.cache.put(the_key(), {1, "old"});
  one.cache.expire(the_key());
  support::load_held load{two, the_key(), {2, "running"}};
  CHECK(sync_wait(one.cache.async_invalidate(the_key())) == tn::delivery::done);
  CHECK_FALSE(load.finish().stored());
  CHECK_FALSE(redis.holds(the_key()));
  CHECK_THROWS_AS(one.cache.fetch(the_key(), []() -> kpi { throw support::odd_fault{1}; }), support::odd_fault);
}

TEST_CASE("async_invalidate with a hold keeps what is begun meanwhile from being stored") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  const tn::invalidate_options lagging{.hold = 1h};
  const auto invalidated = [&]() -> tn::task<tn::delivery> {
    auto invalidating = one.cache.async_invalidate(the_key(), lagging);
    co_return co_await std::move(invalidating);
  };
  CHECK(sync_wait(invalidated()) == tn::delivery::done);
  CHECK_FALSE(one.cache.fetch(the_key(), [] { return kpi{1, "of a replica"}; }).stored());
  auto ticket = sync_wait(one.cache.async_begin(the_key()));
  REQUIRE(redis.client.execute("DEL", the_key().companion("hold")).integer() == 1);  // as when its time is over
  CHECK_FALSE(sync_wait(one.cache.async_put(the_key(), {1, "of a replica"}, std::move(ticket))));
  CHECK_FALSE(one.cache.get(the_key()).has_value());
  CHECK(sync_wait(one.cache.async_invalidate(the_key(), lagging)) == tn::delivery::done);
  sync_wait(one.cache.async_put(the_key(), {3, "known to be current"}));
  CHECK(one.cache.get(the_key()).value()->unit == "known to be current");
}

TEST_CASE("async_expire leaves a stale copy, wakes those who wait, and fences loads that are under way") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.stale_for = 1h, .failure_throttle = 0ms})};
  site two{site::waiting({.stale_for = 1h, .failure_throttle = 0ms})};
  one.cache.put(the_key(), {1, "old"});
  CHECK(sync_wait(one.cache.async_expire(the_key())) == tn::delivery::done);
  CHECK_FALSE(sync_wait(one.cache.async_get(the_key())).has_value());
  const auto copy = one.cache.fetch(the_key(), []() -> kpi { throw support::odd_fault{1}; });
  CHECK(copy->unit == "old");
  CHECK(copy.source() == tn::source::stale);
  support::load_held load{one, the_key(), {2, "running"}};
  support::waiting_fetch waiting{two, the_key(), {3, "own"}};
  (void)sync_wait(two.cache.async_expire(the_key()));
  CHECK(waiting.result()->unit == "own");
  CHECK_FALSE(load.finish().stored());
}

TEST_CASE("what coroutines do to a key throws what Redis answers, as for threads, and counts its failures") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  const tn::load_ticket ticket = one.cache.begin(the_key());
  redis.client.execute("DEL", "stamp:{acme}");
  redis.client.execute("LPUSH", "stamp:{acme}", "x");  // of another type: reads of it fail
  const auto code = [](auto&& call) { return support::failure_of([&] { (void)call(); }).code; };
  CHECK(code([&] { return sync_wait(one.cache.async_begin(the_key())); }) == tn::errc::wrong_type);
  CHECK(code([&] { return sync_wait(one.cache.async_put(the_key(), {1}, ticket)); }) == tn::errc::wrong_type);
  CHECK(code([&] { return sync_wait(one.cache.async_put(the_key(), {1})), 0; }) == tn::errc::wrong_type);
  CHECK(one.cache.stats().store_failures == 1);
  one.redis.close(0ms);
  CHECK(code([&] { return sync_wait(one.cache.async_invalidate(the_key())); }) == tn::errc::closed);
  CHECK(code([&] { return sync_wait(one.cache.async_expire(the_key())); }) == tn::errc::closed);
  CHECK(code([&] { return sync_wait(one.cache.async_get(the_key())); }) == tn::errc::closed);
  CHECK(one.cache.stats().read_failures == 1);
}

TEST_CASE("coroutines may do all this inline, one after another and many at once") {
  const support::must_end ends;
  const redis_rig redis;
  tn::client_options options = support::patient_options();
  options.executor = tn::inline_executor();
  const tn::client own{options};
  tn::cache<kpi> cache{own, {.stale_for = 1h}};
  const auto at_work = [](tn::cache<kpi>& at, int number) -> tn::task<bool> {
    const tn::key k = gateway_health(acme, number);
    auto putting = at.async_put(k, kpi{number, "put"});
    co_await std::move(putting);
    auto getting = at.async_get(k);
    const auto found = co_await std::move(getting);
    auto invalidating = at.async_invalidate(k);
    (void)co_await std::move(invalidating);
    auto beginning = at.async_begin(k);
    auto ticket = co_await std::move(beginning);
    auto storing = at.async_put(k, kpi{number, "ticket"}, std::move(ticket));
    const bool stored = co_await std::move(storing);
    auto expiring = at.async_expire(k);
    (void)co_await std::move(expiring);
    auto looking = at.async_get(k);
    const auto gone = co_await std::move(looking);
    co_return found && (*found)->property_count == number&& stored && !gone;
  };
  std::vector<tn::task<bool>> all;
  for (int i = 0; i < 50; ++i) all.push_back(at_work(cache, i));
  for (const bool each : sync_wait(tn::when_all(std::move(all)))) CHECK(each);
}
