// Loads in the background: where they run, who gets what they give, and what becomes of it.

#include "support/async_calls.hpp"
#include "support/background.hpp"
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
#include <tenantry/observer.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::background_site;
using support::database;
using support::eventually;
using support::failing;
using support::fetch;
using support::fetching;
using support::gateway_health;
using support::kpi;
using support::on_thread;
using support::portfolio_kpi;
using support::redis_rig;
using support::started;
using support::way;
using support::ways;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}

}  // namespace

TEST_CASE("the cache's own loader runs on the executor, never on the caller's thread, and its value is stored") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {}, how, 1};
    from.answer({1, "value"});
    const auto found = fetch(one, the_key(), how);
    CHECK(*found == kpi{1, "value"});
    CHECK(found.source() == tn::source::computed);
    CHECK(found.stored());
    CHECK(found.computed_at().has_value());
    CHECK(one.load_threads() == std::vector{one.pool_thread()});
    CHECK(fetch(one, the_key(), how).source() == tn::source::redis);
    CHECK(from.asked() == 1);
  }
}

TEST_CASE("a loader that is given to fetch runs inside of the call, on the caller's thread, whatever the executor") {
  const support::must_end ends;
  const redis_rig redis;
  database from;
  background_site one{from, {.failure_throttle = 0ms}, ways[0]};
  std::thread::id where;
  const auto found = one.cache().fetch(the_key(), [&] {
    where = std::this_thread::get_id();
    return kpi{1, "plain"};
  });
  CHECK(found.stored());
  CHECK(where == std::this_thread::get_id());
  one.cache().invalidate(the_key());
  where = {};
  (void)one.cache().fetch(the_key(), [&]() -> tn::task<kpi> {
    where = std::this_thread::get_id();
    co_return kpi{2, "task"};
  });
  CHECK(where == std::this_thread::get_id());
  one.cache().invalidate(the_key());
  CHECK_THROWS_AS(one.cache().fetch(the_key(), []() -> kpi { throw std::runtime_error{"in the call"}; }),
                  std::runtime_error);
  const auto told = one.heard.all(tn::events::load_failed);
  REQUIRE(told.size() == 1);
  CHECK(told[0].number.at("background") == 0);
  CHECK(from.asked() == 0);
}

TEST_CASE("1000 callers of two processes, threads and coroutines, share one load on an executor") {
  constexpr int threads = 16;
  constexpr int coroutines = 484;
  const support::must_end ends;
  for (const way& how : {ways[0], ways[1]}) {
    CAPTURE(how.name);
    const redis_rig redis;
    database from;
    background_site one{from, {}, how};
    background_site two{from, {}, how};
    std::vector<support::pending<tn::cached<kpi>>> blocking;
    std::vector<support::under_way<tn::cached<kpi>>> suspended;
    for (background_site* each : {&one, &two}) {
      auto connected = each->redis.async_execute("PING");  // what waits for a connection has narrow bounds
      (void)tn::sync_wait(std::move(connected));
      for (int i = 0; i < threads; ++i) blocking.push_back(fetching(*each, the_key(), ways[0]));
      for (int i = 0; i < coroutines; ++i) suspended.push_back(started(each->cache().async_fetch(the_key())));
    }
    CHECK(eventually([&] { return one.stats().waits + two.stats().waits == 2 * (threads + coroutines) - 1; }));
    from.answer({1, "value"});
    for (auto& each : blocking) CHECK(each.get()->unit == "value");
    for (auto& each : suspended) CHECK(each.take()->unit == "value");
    CHECK(from.asked() == 1);
    CHECK(one.stats().loads + two.stats().loads == 1);
    const auto counted = [](const tn::cache_stats& stats) { return stats.hits + stats.misses; };
    CHECK(counted(one.stats()) + counted(two.stats()) == 2 * (threads + coroutines));
  }
}

TEST_CASE("a load on an executor that was invalidated meanwhile stores nothing that is served, and is reported") {
  struct by {
    const char* name;
    std::function<void(const redis_rig&)> invalidate;
  };
  const auto invalidator = [](const redis_rig& redis) {
    return tn::invalidator{redis.client, tn::catalog{portfolio_kpi}};
  };
  const std::vector<by> all{
      {"key", [](const redis_rig& redis) { tn::cache<kpi>{redis.client}.invalidate(the_key()); }},
      {"tag",
       [&](const redis_rig& redis) {
         invalidator(redis).invalidate(tn::tag{acme, "t"});
       }},
      {"tenant", [&](const redis_rig& redis) { invalidator(redis).invalidate(acme); }},
  };
  for (const way& how : ways) {
    for (const by& each : all) {
      CAPTURE(how.name, each.name);
      const support::must_end ends;
      const redis_rig redis;
      database from;
      background_site one{from, {}, how};
      auto waiting = fetching(one, the_key(), how);
      REQUIRE(eventually([&] { return from.asked() == 1; }));
      each.invalidate(redis);
      auto after = fetching(one, the_key(), how);
      REQUIRE(eventually([&] { return from.asked() == 2; }));  // it does not join the load that began before
      from.answer({1, "old"});
      const auto old = waiting.get();
      CHECK(old->unit == "old");
      CHECK_FALSE(old.stored());
      CHECK_FALSE(one.cache().get(the_key()).has_value());
      CHECK(one.stats().fenced == 1);
      const auto told = one.heard.all(tn::events::load_fenced);
      REQUIRE(told.size() == 1);
      CHECK(told[0].text.at("tenant") == "acme");
      CHECK(told[0].number.at("milliseconds") >= 0);
      from.answer({2, "new"});
      CHECK(after.get()->unit == "new");
      CHECK(fetch(one, the_key(), how)->unit == "new");
      CHECK(one.heard.all(tn::events::load_fenced).size() == 1);
    }
  }
}

TEST_CASE("what a load on an executor throws comes to all who wait for it, is reported, and throttles the next") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.failure_throttle = 60s}, how};
    background_site two{from, {.failure_throttle = 60s}, how};
    std::vector<support::pending<std::string>> here;
    for (int i = 0; i < 5; ++i) here.push_back(failing(one, the_key(), how));
    REQUIRE(eventually([&] { return from.asked() == 1 && one.stats().waits == 4; }));
    auto there = failing(two, the_key(), how);
    REQUIRE(eventually([&] { return two.stats().waits == 1; }));
    from.refuse("no such table");
    for (auto& each : here) CHECK(each.get() == "no such table");
    CHECK(there.get().find("failed a moment ago") != std::string::npos);
    CHECK(support::failure_of([&] { (void)fetch(one, the_key(), how); }).code == tn::errc::load_failed);
    CHECK(from.asked() == 1);
    CHECK(one.stats().load_failures == 1);
    CHECK(one.stats().throttled == 1);
    const auto told = one.heard.all(tn::events::load_failed);
    REQUIRE(told.size() == 1);
    CHECK(told[0].text.at("tenant") == "acme");
    CHECK(told[0].text.at("detail") == "no such table");
    CHECK(told[0].number.at("background") == 1);
  }
}

TEST_CASE("those who wait for a load on an executor that throws get the stale copy where there is one") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.stale_for = 1h, .failure_throttle = 60s}, how};
    one.cache().put(the_key(), {1, "old"});
    one.cache().expire(the_key());
    std::vector<support::pending<tn::cached<kpi>>> waiting;
    for (int i = 0; i < 5; ++i) waiting.push_back(fetching(one, the_key(), how));
    REQUIRE(eventually([&] { return from.asked() == 1 && one.stats().waits == 4; }));
    from.refuse("no such table");
    for (auto& each : waiting) {
      const auto copy = each.get();
      CHECK(copy->unit == "old");
      CHECK(copy.source() == tn::source::stale);
    }
    CHECK(fetch(one, the_key(), how).source() == tn::source::stale);
    CHECK(from.asked() == 1);
    CHECK(one.stats().stale == 6);
    CHECK(one.heard.all(tn::events::stale_served).size() == 6);
    CHECK(one.heard.all(tn::events::load_failed).size() == 1);
  }
}

TEST_CASE("a load that was left behind keeps its lease by renewal, until load_timeout, and is told of that") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.lease_ttl = support::brief_lease, .hard_timeout = 20ms}, how};
    background_site two{from, {.lease_ttl = support::brief_lease}, how};
    CHECK(support::failure_of([&] { (void)fetch(one, the_key(), how); }).code == tn::errc::load_timeout);
    auto waiting = fetching(two, the_key(), how);
    std::this_thread::sleep_for(2 * support::brief_lease);
    CHECK(from.asked() == 1);
    from.answer({1, "value"});
    CHECK(waiting.get()->unit == "value");
    CHECK(two.stats().loads == 0);
    one.cache().invalidate(the_key());
    background_site hurried{from, {.lease_ttl = 150ms, .load_timeout = 50ms, .hard_timeout = 20ms}, how};
    CHECK(support::failure_of([&] { (void)fetch(hurried, the_key(), how); }).code == tn::errc::load_timeout);
    CHECK(eventually([&] { return hurried.stops().size() == 1 && hurried.stops()[0].stop_requested(); }));
    auto after = fetching(two, the_key(), how);
    REQUIRE(eventually([&] { return from.asked() == 3; }));
    from.answer({2, "late"});
    from.answer({3, "new"});
    CHECK(after.get()->unit == "new");
    CHECK(eventually([&] { return hurried.stats().fenced == 1; }));
  }
}

TEST_CASE("while Redis is away loads run on the executor all the same, one for all callers, and may take too long") {
  const support::must_end ends;
  tn::client_options nowhere = tn::client_options::from_url("redis://127.0.0.1:1");
  nowhere.down = tn::when_down::fail;
  nowhere.timeout = 20s;
  for (const bool coroutine : {false, true}) {
    CAPTURE(coroutine);
    tn::thread_pool pool{1};
    const tn::client away{nowhere};
    database from;
    std::atomic<std::thread::id> where;
    const auto load = [&] {
      where = std::this_thread::get_id();
      return from.ask();
    };
    tn::cache<kpi> patient{away, {.executor = pool.get_executor()}, load};
    const auto fetch_one = [&] {
      const auto found = coroutine ? tn::sync_wait(patient.async_fetch(the_key())) : patient.fetch(the_key());
      return found->unit + (found.stored() ? " stored" : "") + (found.failure() != nullptr ? " failure" : "");
    };
    auto first = on_thread(fetch_one);
    REQUIRE(eventually([&] { return from.asked() == 1; }));
    auto second = on_thread(fetch_one);
    REQUIRE(eventually([&] { return patient.stats().waits == 1; }));
    from.answer({1, "value"});
    CHECK(first.get() == "value failure");
    CHECK(second.get() == "value failure");
    CHECK(where.load() != std::this_thread::get_id());
    tn::cache<kpi> hasty{away, {.executor = pool.get_executor(), .hard_timeout = 20ms}, load};
    CHECK(support::failure_of([&] {
            coroutine ? (void)tn::sync_wait(hasty.async_fetch(the_key())) : (void)hasty.fetch(the_key());
          }).code == tn::errc::load_timeout);
    from.answer({2, "late"});
    CHECK(hasty.close(20s));
    CHECK(from.asked() == 2);
    CHECK(hasty.stats().misses == 0);
  }
}

TEST_CASE("a load on an executor that throws something odd is reported, and comes to its caller") {
  const support::must_end ends;
  const redis_rig redis;
  support::listener heard;
  tn::client_options options = support::patient_options();
  options.observer = heard.ear();
  tn::thread_pool pool{1};
  const tn::client own{options};
  tn::cache<kpi> cache{
      own, {.executor = pool.get_executor(), .failure_throttle = 0ms}, []() -> kpi { throw support::odd_fault{3}; }};
  CHECK_THROWS_AS(cache.fetch(the_key()), support::odd_fault);
  CHECK_THROWS_AS(tn::sync_wait(cache.async_fetch(the_key())), support::odd_fault);
  CHECK(heard.all(tn::events::load_failed).size() == 2);
}

TEST_CASE("a loader on an executor is shown the value that it is to replace, and says how long its own is kept") {
  const support::must_end ends;
  const redis_rig redis;
  tn::thread_pool pool{1};
  const tn::client own{support::patient_options()};
  tn::cache<kpi> cache{
      own, {.jitter = 0, .stale_for = 1h, .executor = pool.get_executor()}, [](const tn::key&, tn::load_context& load) {
        const auto before = load.previous<kpi>();
        load.ttl(10s);
        return kpi{before ? before->property_count + 1 : 0, "loaded"};
      }};
  cache.put(the_key(), {7, "old"});
  cache.expire(the_key());
  CHECK(*cache.fetch(the_key()) == kpi{8, "loaded"});
  CHECK(redis.pttl(the_key()) <= std::chrono::milliseconds{1h + 10s}.count());
  cache.expire(the_key());
  CHECK(*tn::sync_wait(cache.async_fetch(the_key())) == kpi{9, "loaded"});
  cache.invalidate(the_key());
  CHECK(*cache.fetch(the_key()) == kpi{0, "loaded"});
}
