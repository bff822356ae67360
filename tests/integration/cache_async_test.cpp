// A cache for coroutines.

#include "support/async_calls.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
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
using support::gate;
using support::gateway_health;
using support::kpi;
using support::on_thread;
using support::portfolio_kpi;
using support::redis_rig;
using support::result_of;
using support::site;
using support::started;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}

/// A load that ends when something is pushed to a list: it waits without a thread.
tn::task<kpi> popped(const tn::client& redis, std::atomic<int>& loads) {
  ++loads;
  tn::async_exclusive_connection own = redis.async_exclusive();
  const tn::reply got = co_await own.async_execute_for(30s, "BLPOP", "database", 25);
  co_return kpi{1, got[1].str()};
}

tn::client_options options_with(tn::executor where) {
  tn::client_options options = support::patient_options();
  options.executor = std::move(where);
  return options;
}

}  // namespace

TEST_CASE("async_fetch loads, stores and then hits, like fetch, with a loader that returns a value") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  std::atomic<int> loads{0};
  tn::cache<kpi> cache{own, {}, [&] { return kpi{++loads, "plain"}; }};
  const auto first = tn::sync_wait(cache.async_fetch(the_key()));
  CHECK(*first == kpi{1, "plain"});
  CHECK(first.source() == tn::source::computed);
  CHECK(first.stored());
  const auto second = tn::sync_wait(cache.async_fetch(the_key()));
  CHECK(*second == kpi{1, "plain"});
  CHECK(second.source() == tn::source::redis);
  CHECK(cache.fetch(the_key()).source() == tn::source::redis);
  CHECK(loads == 1);
}

TEST_CASE("a loader that returns a task is awaited by async_fetch, and waited for by fetch") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  std::atomic<int> loads{0};
  tn::cache<kpi> cache{own, {}, [&]() { return popped(own, loads); }};
  redis.client.execute("RPUSH", "database", "first");
  CHECK(tn::sync_wait(cache.async_fetch(the_key()))->unit == "first");
  cache.invalidate(the_key());
  redis.client.execute("RPUSH", "database", "second");
  CHECK(cache.fetch(the_key())->unit == "second");
  CHECK(tn::sync_wait(cache.async_fetch(the_key()))->unit == "second");
  CHECK(loads == 2);
}

TEST_CASE("200 coroutines of two processes share one load, with the default executor and inline") {
  for (const bool in_line : {false, true}) {
    CAPTURE(in_line);
    const support::must_end ends;
    const redis_rig redis;
    const tn::executor where = in_line ? tn::inline_executor() : tn::executor{};
    const tn::client first{options_with(where)};
    const tn::client second{options_with(where)};
    std::atomic<int> loads{0};
    tn::cache<kpi> one{first, site::waiting(), [&]() { return popped(first, loads); }};
    tn::cache<kpi> two{second, site::waiting(), [&]() { return popped(second, loads); }};
    for (const tn::client* each : {&first, &second}) {  // what waits for a connection has narrow bounds
      auto connected = each->async_execute("PING");
      (void)tn::sync_wait(std::move(connected));
    }
    std::vector<support::under_way<tn::cached<kpi>>> fetching;
    for (int i = 0; i < 100; ++i) {
      fetching.push_back(started(one.async_fetch(the_key())));
      fetching.push_back(started(two.async_fetch(the_key())));
    }
    CHECK(eventually([&] { return one.stats().waits + two.stats().waits == 199; }));
    CHECK(loads == 1);
    redis.client.execute("RPUSH", "database", "value");
    for (auto& each : fetching) CHECK(result_of(each)->unit == "value");
    CHECK(loads == 1);
  }
}

TEST_CASE("coroutines that wait hold up no others, with one thread for all of them") {
  const support::must_end ends;
  const redis_rig redis;
  tn::thread_pool pool{1};
  const tn::client own{options_with(pool.get_executor())};
  std::atomic<int> loads{0};
  tn::cache<kpi> cache{own, site::waiting(), [&]() { return popped(own, loads); }};
  site other;
  support::load_held elsewhere{other, gateway_health(acme, "elsewhere"), {1, "elsewhere"}};
  auto here = started(cache.async_fetch(the_key()));
  auto with_it = started(cache.async_fetch(the_key()));
  auto for_another = started(cache.async_fetch(gateway_health(acme, "elsewhere")));
  CHECK(eventually([&] { return cache.stats().waits == 2; }));
  cache.put(gateway_health(acme, "hit"), {2, "hit"});
  CHECK(tn::sync_wait(cache.async_fetch(gateway_health(acme, "hit")))->unit == "hit");
  CHECK_FALSE(has_ended(here));
  redis.client.execute("RPUSH", "database", "value");
  CHECK(result_of(here)->unit == "value");
  CHECK(result_of(with_it)->unit == "value");
  (void)elsewhere.finish();
  CHECK(result_of(for_another)->unit == "elsewhere");
  CHECK(loads == 1);
}

TEST_CASE("coroutines and threads share one load, whoever began it, and get the same object") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  for (const bool thread_first : {false, true}) {
    CAPTURE(thread_first);
    std::atomic<int> loads{0};
    tn::cache<kpi> cache{own, site::waiting(), [&]() { return popped(own, loads); }};
    std::optional<std::future<tn::cached<kpi>>> blocking;
    std::optional<support::under_way<tn::cached<kpi>>> coroutine;
    for (const bool thread : {thread_first, !thread_first}) {
      if (thread) {
        blocking = on_thread([&] { return cache.fetch(the_key()); });
      } else {
        coroutine = started(cache.async_fetch(the_key()));
      }
      CHECK(eventually([&] { return loads == 1; }));
    }
    CHECK(eventually([&] { return cache.stats().waits == 1; }));
    redis.client.execute("RPUSH", "database", "value");
    const auto from_thread = blocking->get();
    const auto from_coroutine = result_of(*coroutine);
    CHECK(from_thread->unit == "value");
    CHECK(&*from_thread == &*from_coroutine);
    CHECK(loads == 1);
    cache.invalidate(the_key());
  }
}

TEST_CASE("what a loader of coroutines throws comes to all who wait, and then there is load_failed or a stale copy") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  const auto fails = [&]() -> tn::task<kpi> {
    auto asked = own.async_execute("BLPOP", "not allowed here", 1);  // refused_command
    (void)co_await std::move(asked);
    co_return kpi{};
  };
  for (const bool copy : {false, true}) {
    redis.client.execute("FLUSHALL");
    tn::cache<kpi> cache{own, {.stale_for = 1h, .failure_throttle = 60s}, fails};
    if (copy) {
      cache.put(the_key(), {1, "old"});
      cache.expire(the_key());
    }
    for (int i = 0; i < 3; ++i) {
      CAPTURE(copy, i);
      auto fetching = started(cache.async_fetch(the_key()));
      if (copy) {
        const auto found = result_of(fetching);
        CHECK(found->unit == "old");
        CHECK(found.source() == tn::source::stale);
      } else {
        const auto expected = i == 0 ? tn::errc::refused_command : tn::errc::load_failed;
        CHECK(support::failure_of(fetching).code == expected);
      }
    }
    CHECK(cache.stats().loads == 1);
  }
}

TEST_CASE("a plain loader that throws anything throws it from async_fetch") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  tn::cache<kpi> cache{own, {.failure_throttle = 0ms}, []() -> kpi { throw support::odd_fault{3}; }};
  CHECK_THROWS_AS(tn::sync_wait(cache.async_fetch(the_key())), support::odd_fault);
  tn::cache<kpi> without{own};
  CHECK(support::failure_of([&] { (void)tn::sync_wait(without.async_fetch(the_key())); }).code ==
        tn::errc::invalid_option);
}

TEST_CASE("a task may say that there is no value") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  std::atomic<int> loads{0};
  tn::cache<kpi> cache{own, {.negative_ttl = 10min}, [&]() -> tn::task<std::optional<kpi>> {
                         ++loads;
                         co_return std::nullopt;
                       }};
  CHECK(tn::sync_wait(cache.async_fetch(the_key())).absent());
  CHECK(tn::sync_wait(cache.async_fetch(the_key())).absent());
  CHECK(cache.fetch(the_key()).absent());
  CHECK(loads == 1);
}

TEST_CASE("an invalidation fences the load of a coroutine, and a fetch after it does not join that load") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  std::atomic<int> loads{0};
  tn::cache<kpi> cache{own, site::waiting(), [&]() -> tn::task<kpi> {
                         if (loads == 0) return popped(own, loads);
                         return []() -> tn::task<kpi> { co_return kpi{2, "new"}; }();
                       }};
  auto old = started(cache.async_fetch(the_key()));
  CHECK(eventually([&] { return loads == 1; }));
  cache.invalidate(the_key());
  auto fresh = started(cache.async_fetch(the_key()));
  CHECK(result_of(fresh)->unit == "new");
  redis.client.execute("RPUSH", "database", "old");
  const auto late = result_of(old);
  CHECK(late->unit == "old");
  CHECK_FALSE(late.stored());
  CHECK(cache.get(the_key()).value()->unit == "new");
}

TEST_CASE("a coroutine's load keeps its lease by renewal, without a thread") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  std::atomic<int> loads{0};
  tn::cache<kpi> cache{own, site::waiting({.lease_ttl = support::brief_lease}), [&]() { return popped(own, loads); }};
  site other{site::waiting({.lease_ttl = support::brief_lease})};
  auto loading = started(cache.async_fetch(the_key()));
  CHECK(eventually([&] { return loads == 1; }));
  support::waiting_fetch waiting{other, the_key(), {2, "not called"}};
  std::this_thread::sleep_for(2 * support::brief_lease);
  CHECK(waiting.loads() == 0);
  redis.client.execute("RPUSH", "database", "value");
  CHECK(result_of(loading).stored());
  CHECK(waiting.result()->unit == "value");
}

TEST_CASE("a coroutine whose lease_wait ends goes on with a stale copy, or loads for itself and stores nothing") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  tn::cache<kpi> cache{own, {.stale_for = 1h, .lease_wait = 50ms}, [] { return kpi{2, "own"}; }};
  site other{site::waiting({.stale_for = 1h})};
  {
    support::load_held load{other, the_key(), {1, "other"}};
    const auto alone = tn::sync_wait(cache.async_fetch(the_key()));
    CHECK(alone->unit == "own");
    CHECK_FALSE(alone.stored());
    CHECK(load.finish().stored());
  }
  cache.expire(the_key());
  support::load_held load{other, the_key(), {3, "newer"}};
  const auto copy = tn::sync_wait(cache.async_fetch(the_key()));
  CHECK(copy->unit == "other");
  CHECK(copy.source() == tn::source::stale);
}

TEST_CASE("a task loader may fetch other keys, also those that others load, with one thread and inline") {
  const support::must_end ends;
  const redis_rig redis;
  for (const bool in_line : {false, true}) {
    CAPTURE(in_line);
    redis.client.execute("FLUSHALL");
    tn::thread_pool pool{1};
    const tn::client own{options_with(in_line ? tn::inline_executor() : pool.get_executor())};
    std::atomic<int> inner_loads{0};
    tn::cache<kpi> inner{own, {}, [&](const tn::key&) -> tn::task<kpi> {
                           ++inner_loads;
                           auto asked = own.async_execute("PING");
                           const tn::reply pong = co_await std::move(asked);
                           co_return kpi{1, pong.str()};
                         }};
    tn::cache<kpi> outer{own, {}, [&](const tn::key&) -> tn::task<kpi> {
                           auto nested = inner.async_fetch(gateway_health(acme, "shared"));
                           const auto found = co_await std::move(nested);
                           co_return kpi{2, found->unit};
                         }};
    std::vector<support::under_way<tn::cached<kpi>>> fetching;
    for (int i = 0; i < 20; ++i) fetching.push_back(started(outer.async_fetch(gateway_health(acme, i))));
    for (auto& each : fetching) CHECK(*result_of(each) == kpi{2, "PONG"});
    CHECK(inner_loads >= 1);
  }
}
