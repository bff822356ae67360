// The end of loading in the background: close, the destructor, executors that fail, and clients that are closed.

#include "support/async_calls.hpp"
#include "support/background.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
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
using support::portfolio_kpi;
using support::redis_rig;
using support::started;
using support::way;
using support::ways;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}

bool lease_is_there(const redis_rig& redis) {
  return redis.client.execute("EXISTS", the_key().companion("lease")).integer() == 1;
}

/// Throws from the call of this number on.
struct broken_executor {
  std::atomic<int>* calls;
  tn::executor before;
  int good = 0;

  void operator()(std::coroutine_handle<> ready) const {
    if (++*calls > good) throw support::odd_fault{5};
    before(ready);
  }
};

/// A cache whose executor throws, on a client that is watched.
struct broken_site {
  explicit broken_site(tn::cache_options options = {}, int good = 0) : redis{watched(heard)} {
    options.executor = broken_executor{&calls, pool.get_executor(), good};
    owned = std::make_unique<tn::cache<kpi>>(
        redis, options,
        [this] {
          return ++loads, kpi{1, "loaded"};
        },
        [this](std::span<const tn::key> keys) { return ++loads, std::vector<kpi>(keys.size()); });
  }
  static tn::client_options watched(support::listener& by) {
    tn::client_options options = support::patient_options();
    options.observer = by.ear();
    return options;
  }

  std::atomic<int> calls{0};
  std::atomic<int> loads{0};
  support::listener heard;
  tn::thread_pool pool{1};
  tn::client redis;
  std::unique_ptr<tn::cache<kpi>> owned;
};

}  // namespace

TEST_CASE("close tells loads in the background to stop, and is true when they have ended") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.hard_timeout = 20ms}, how};
    const std::vector<tn::key> keys{gateway_health(acme, 1), gateway_health(acme, 2)};
    for (const tn::key& k : keys) {
      CHECK(support::failure_of([&] { (void)fetch(one, k, how); }).code == tn::errc::load_timeout);
    }
    REQUIRE(eventually([&] { return one.stops().size() == 2; }));
    const auto stops = one.stops();
    for (const std::stop_token& each : stops) CHECK_FALSE(each.stop_requested());
    const std::stop_callback first{stops[0], [&] { from.refuse("stopped"); }};
    const std::stop_callback second{stops[1], [&] { from.refuse("stopped"); }};
    CHECK(one.cache().close(20s));
    CHECK(one.stats().load_failures == 2);
    CHECK(one.cache().close(0ms));
  }
}

TEST_CASE(
    "close is false when a load has not ended in time, and those who wait for that load get its value all the same") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {}, how};
    auto waiting = fetching(one, the_key(), how);
    REQUIRE(eventually([&] { return one.stops().size() == 1; }));
    CHECK_FALSE(one.cache().close(20ms));
    CHECK(one.stops()[0].stop_requested());
    CHECK_FALSE(one.cache().close(0ms));
    CHECK_FALSE(one.cache().close(-1ms));
    from.answer({1, "late"});
    const auto found = waiting.get();
    CHECK(found->unit == "late");
    CHECK(found.stored());
    CHECK(one.cache().close(std::chrono::milliseconds::max()));
  }
}

TEST_CASE("after close fetches load in their own call, and timeouts hurry nobody") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.stale_for = 1h, .soft_timeout = 1ms, .hard_timeout = 1ms}, how, 1};
    const auto pool = one.pool_thread();  // which runs: a thread that ends leaves its id to the next
    CHECK(one.cache().close(0ms));
    one.cache().put(the_key(), {1, "old"});
    one.cache().expire(the_key());
    auto loading = fetching(one, the_key(), how);
    REQUIRE(eventually([&] { return from.asked() == 1; }));
    std::this_thread::sleep_for(20ms);
    CHECK_FALSE(loading.has_ended());
    from.answer({2, "new"});
    CHECK(loading.get()->unit == "new");
    from.answer({3, "many"});
    from.answer({3, "many"});
    const std::vector<tn::key> keys{gateway_health(acme, 1), gateway_health(acme, 2)};
    const auto many = how.coroutine ? tn::sync_wait(one.cache().async_fetch_many(keys)) : one.cache().fetch_many(keys);
    for (const auto& each : many) CHECK(each->unit == "many");
    for (const std::thread::id each : one.load_threads()) CHECK(each != pool);
    CHECK(one.stats().loads == 3);
  }
}

TEST_CASE("the destructor tells loads in the background to stop and waits for their end, and they are stored") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.hard_timeout = 20ms}, how};
    CHECK(support::failure_of([&] { (void)fetch(one, the_key(), how); }).code == tn::errc::load_timeout);
    REQUIRE(eventually([&] { return one.stops().size() == 1; }));
    const auto stop = one.stops()[0];
    support::pending<bool> ending{one, [&] { return one.destroy_cache(), true; }};
    CHECK(eventually([&] { return stop.stop_requested(); }));
    std::this_thread::sleep_for(50ms);  // for a destructor that does not wait to show
    CHECK_FALSE(ending.has_ended());
    CHECK(lease_is_there(redis));
    from.answer({1, "last"});
    CHECK(ending.get());
    CHECK(redis.payload(the_key()).value().find("last") != std::string::npos);
    CHECK_FALSE(lease_is_there(redis));
  }
}

TEST_CASE("nothing of a cache runs any more when its destructor has returned, also of loads that had not begun") {
  for (const bool coroutines : {false, true}) {
    CAPTURE(coroutines);
    const support::must_end ends;
    const redis_rig redis;
    const way how{coroutines, false, ""};
    database from;
    background_site one{from, {.hard_timeout = 20ms}, how, 1};  // the first load holds the only thread
    constexpr int loads = 5;
    for (int i = 0; i < loads; ++i) {
      CHECK(support::failure_of([&] { (void)fetch(one, gateway_health(acme, i), how); }).code ==
            tn::errc::load_timeout);
    }
    CHECK(from.asked() == 1);
    support::pending<bool> ending{one, [&] { return one.destroy_cache(), true; }};
    REQUIRE(eventually([&] { return one.stops()[0].stop_requested(); }));
    for (int i = 0; i < loads; ++i) from.answer({i, "late"});
    CHECK(ending.get());
    const auto stops = one.stops();
    CHECK(std::ranges::all_of(stops, [](const std::stop_token& each) { return each.stop_requested(); }));
    const int asked = from.asked();
    (void)one.pool_thread();  // what was queued before has run
    CHECK(from.asked() == asked);
    CHECK(stops.size() == static_cast<std::size_t>(asked));
    CHECK(redis.client.execute("KEYS", "*lease*").elements().empty());
  }
}

TEST_CASE("a loader is destroyed when its cache is, and not by a load that has ended") {
  const support::must_end ends;
  const redis_rig redis;
  tn::thread_pool pool{2};
  const tn::client own{support::patient_options()};
  int left = 0;
  for (int i = 0; i < 200; ++i) {
    auto held = std::make_shared<int>(i);
    const std::weak_ptr<int> watched = held;
    {
      tn::cache<kpi> cache{own, {.executor = pool.get_executor()}, [held = std::move(held)] {
                             return kpi{*held, "loaded"};
                           }};
      (void)cache.fetch(gateway_health(acme, i));
    }
    left += watched.expired() ? 0 : 1;
  }
  CHECK(left == 0);
}

TEST_CASE("an executor that throws fails the fetch with what it threw, like a load that failed") {
  for (const bool coroutine : {false, true}) {
    CAPTURE(coroutine);
    const support::must_end ends;
    const redis_rig redis;
    broken_site one{{.stale_for = 1h, .failure_throttle = 60s}};
    tn::cache<kpi>& cache = *one.owned;
    const auto fetch_one = [&] {
      return coroutine ? tn::sync_wait(cache.async_fetch(the_key())) : cache.fetch(the_key());
    };
    CHECK_THROWS_AS(fetch_one(), support::odd_fault);
    CHECK_FALSE(lease_is_there(redis));
    CHECK(support::failure_of([&] { (void)fetch_one(); }).code == tn::errc::load_failed);
    CHECK(one.calls == 1);
    cache.put(the_key(), {1, "old"});
    cache.expire(the_key());
    CHECK(fetch_one().source() == tn::source::stale);
    CHECK(one.calls == 2);
    CHECK(one.loads == 0);
    const tn::cache_stats stats = cache.stats();
    CHECK(stats.loads == 2);
    CHECK(stats.load_failures == 2);
    CHECK(stats.hits + stats.misses == 3);
    CHECK(one.heard.all(tn::events::load_failed).size() == 2);
    CHECK(cache.close(20s));  // nothing is left
  }
}

TEST_CASE("an executor that throws fails fetch_many with what it threw, with and without a batch loader") {
  for (const bool coroutine : {false, true}) {
    for (const bool batch : {false, true}) {
      CAPTURE(coroutine, batch);
      const support::must_end ends;
      const redis_rig redis;
      broken_site one{{.failure_throttle = 60s}};
      const tn::client own{support::patient_options()};
      tn::cache<kpi> single{
          own, {.executor = broken_executor{&one.calls, {}}, .failure_throttle = 60s}, [] { return kpi{}; }};
      tn::cache<kpi>& cache = batch ? *one.owned : single;
      const std::vector<tn::key> keys{the_key(), gateway_health(acme, 1), the_key()};
      const auto fetch_all = [&] {
        return coroutine ? tn::sync_wait(cache.async_fetch_many(keys)) : cache.fetch_many(keys);
      };
      CHECK_THROWS_AS(fetch_all(), support::odd_fault);
      CHECK(support::failure_of([&] { (void)fetch_all(); }).code == tn::errc::load_failed);
      CHECK_FALSE(lease_is_there(redis));
      const tn::cache_stats stats = cache.stats();
      CHECK(stats.loads == 2);
      CHECK(stats.load_failures == 2);
      CHECK(cache.close(20s));
    }
  }
}

TEST_CASE("an executor that throws leaves a fresh value in place that was to be refreshed") {
  const support::must_end ends;
  const redis_rig redis;
  broken_site one{{.ttl = 60s, .jitter = 0, .refresh_ahead = 0.0001, .failure_throttle = 60s}};
  one.owned->put(the_key(), {1, "old"});
  CHECK(eventually([&] {
    CHECK(one.owned->fetch(the_key())->unit == "old");
    CHECK(tn::sync_wait(one.owned->async_fetch(the_key()))->unit == "old");
    return one.calls == 1;
  }));
  CHECK(eventually([&] { return one.heard.all(tn::events::load_failed).size() == 1; }));
  CHECK(one.owned->get(the_key()).has_value());
  CHECK(one.owned->stats().load_failures == 1);
}

TEST_CASE("with inline_executor loads run in the call, and all that needs an executor may be used") {
  const support::must_end ends;
  const redis_rig redis;
  std::atomic<std::thread::id> where;
  const tn::client own{support::patient_options()};
  tn::cache<kpi> cache{own,
                       {.stale_for = 1h, .executor = tn::inline_executor(), .soft_timeout = 1s, .hard_timeout = 10s},
                       [&](const tn::key& k) {
                         where = std::this_thread::get_id();
                         return kpi{1, k.str()};
                       }};
  CHECK(cache.fetch(the_key())->unit == the_key().str());
  CHECK(where.load() == std::this_thread::get_id());
  CHECK(cache.get(the_key()).has_value());
  cache.invalidate(the_key());
  CHECK(tn::sync_wait(cache.async_fetch(the_key())).stored());
  const std::vector<tn::key> keys{gateway_health(acme, 1), the_key(), gateway_health(acme, 2)};
  const auto many = cache.fetch_many(keys);
  for (std::size_t i = 0; i < keys.size(); ++i) CHECK(many[i]->unit == keys[i].str());
  CHECK(cache.stats().loads == 4);
  CHECK(cache.stats().stores == 4);
}

TEST_CASE("on a client that is closed a fetch answers from the loader, and begins one load in the background at most") {
  struct by {
    bool coroutine;
    bool timeouts;
  };
  for (const auto [coroutine, timeouts] : {by{false, false}, by{true, false}, by{true, true}}) {
    CAPTURE(coroutine, timeouts);
    const support::must_end ends;
    const redis_rig redis;
    std::atomic<int> posted{0};
    std::atomic<int> loads{0};
    support::gate release;
    tn::thread_pool pool{2};
    tn::client own{support::patient_options()};
    tn::cache_options options{.stale_for = 1h, .executor = broken_executor{&posted, pool.get_executor(), 1000}};
    if (timeouts) options.soft_timeout = options.hard_timeout = 1h;
    tn::cache<kpi> cache{own, options, [&] {
                           ++loads;
                           release.wait();
                           return kpi{1, "loaded"};
                         }};
    own.close(0ms);
    auto loading = support::on_thread(
        [&] { return coroutine ? tn::sync_wait(cache.async_fetch(the_key())) : cache.fetch(the_key()); });
    const support::opens_at_end cleanup{release};
    CHECK(eventually([&] { return loads == (coroutine ? 2 : 1); }));  // a coroutine has nobody to wake it any more
    CHECK(posted == 1);
    release.open();
    const auto found = loading.get();
    CHECK(found->unit == "loaded");
    CHECK_FALSE(found.stored());
    CHECK(cache.close(20s));
    CHECK(loads == (coroutine ? 2 : 1));
  }
}
