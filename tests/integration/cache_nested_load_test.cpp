// Loaders on an executor that fetch: other keys of their cache, each other's, and their own.

#include "support/async_calls.hpp"
#include "support/background.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/load_context.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <pthread.h>
#include <span>
#include <string>
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
using support::redis_rig;
using support::started;

/// A cache on an executor with so many threads, whose loader may use the cache. Who waits for a load waits longer than
/// a test may take.
class nest {
 public:
  using cache = tn::cache<kpi>;
  using plain = std::function<kpi(cache&, const tn::key&, tn::load_context&)>;
  using later = std::function<tn::task<kpi>(cache&, const tn::key&, tn::load_context&)>;

  nest(unsigned threads, plain load)
      : pool_{threads},
        redis_{support::patient_options()},
        cache_{redis_, options(), [this, load = std::move(load)](const tn::key& k, tn::load_context& context) {
                 return load(cache_, k, context);
               }} {}
  nest(unsigned threads, later load)
      : pool_{threads},
        redis_{support::patient_options()},
        cache_{redis_, options(), [this, load = std::move(load)](const tn::key& k, tn::load_context& context) {
                 return load(cache_, k, context);
               }} {}

  cache& operator*() { return cache_; }
  cache* operator->() { return &cache_; }

 private:
  tn::cache_options options() {
    tn::cache_options chosen = support::site::waiting({.failure_throttle = 0ms});
    chosen.executor = pool_.get_executor();
    return chosen;
  }

  tn::thread_pool pool_;
  tn::client redis_;
  cache cache_;
};

const tn::key& inner() {
  static const tn::key k = gateway_health(acme, "inner");
  return k;
}
std::vector<tn::key> inners() { return {gateway_health(acme, "first"), inner()}; }

/// What a plain loader may do to fetch `inner`.
struct blocking_way {
  const char* name;
  std::function<kpi(tn::cache<kpi>&, tn::load_context&)> fetch_inner;
};
const std::vector<blocking_way>& blocking_ways() {
  static const std::vector<blocking_way> all{
      {"fetch", [](tn::cache<kpi>& from, tn::load_context&) { return *from.fetch(inner()); }},
      {"fetch with a loader",
       [](tn::cache<kpi>& from, tn::load_context&) { return *from.fetch(inner(), [] {
                                                       return kpi{1, "inner"};
                                                     }); }},
      {"fetch_many", [](tn::cache<kpi>& from, tn::load_context&) { return *from.fetch_many(inners())[1]; }},
      {"async_fetch",
       [](tn::cache<kpi>& from, tn::load_context&) { return *tn::sync_wait(from.async_fetch(inner())); }},
      {"async_fetch in the context",
       [](tn::cache<kpi>& from, tn::load_context& load) { return *tn::sync_wait(from.async_fetch(inner(), load)); }},
      {"async_fetch_many",
       [](tn::cache<kpi>& from, tn::load_context&) { return *tn::sync_wait(from.async_fetch_many(inners()))[1]; }},
  };
  return all;
}

/// And a task loader.
tn::task<kpi> by_async_fetch(tn::cache<kpi>& from, tn::load_context&) {
  auto fetching = from.async_fetch(inner());
  const auto found = co_await std::move(fetching);
  co_return *found;
}
tn::task<kpi> by_async_fetch_inside(tn::cache<kpi>& from, tn::load_context& load) {
  auto fetching = from.async_fetch(inner(), load);
  const auto found = co_await std::move(fetching);
  co_return *found;
}
tn::task<kpi> by_async_fetch_many(tn::cache<kpi>& from, tn::load_context&) {
  auto fetching = from.async_fetch_many(inners());
  const auto found = co_await std::move(fetching);
  co_return *found[1];
}
struct task_way {
  const char* name;
  tn::task<kpi> (*fetch_inner)(tn::cache<kpi>&, tn::load_context&);
};
constexpr std::array task_ways{task_way{"async_fetch", by_async_fetch},
                               task_way{"async_fetch in the context", by_async_fetch_inside},
                               task_way{"async_fetch_many", by_async_fetch_many}};

/// On a thread whose stack is too large for the C library to keep it for the next thread.
void run_on_big_stack(std::function<void()> what) {
  pthread_attr_t large;
  REQUIRE(pthread_attr_init(&large) == 0);
  REQUIRE(pthread_attr_setstacksize(&large, std::size_t{256} << 20U) == 0);
  pthread_t thread{};
  const auto run = [](void* given) -> void* {
    (*static_cast<std::function<void()>*>(given))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &large, run, &what) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  REQUIRE(pthread_attr_destroy(&large) == 0);
}

bool is_inner(const tn::key& k) { return k == inner() || k == inners()[0]; }

nest nest_of(unsigned threads, const blocking_way& how) {
  return nest{threads, nest::plain{[how](tn::cache<kpi>& from, const tn::key& k, tn::load_context& load) {
                if (is_inner(k)) return kpi{1, "inner"};
                return kpi{2, how.fetch_inner(from, load).unit};
              }}};
}
tn::task<kpi> load_task(task_way how, tn::cache<kpi>& from, const tn::key& k, tn::load_context& load) {
  if (is_inner(k)) co_return kpi{1, "inner"};
  auto fetching = how.fetch_inner(from, load);
  const kpi found = co_await std::move(fetching);
  co_return kpi{2, found.unit};
}
nest nest_of(unsigned threads, const task_way& how) {
  return nest{threads, nest::later{[how](tn::cache<kpi>& from, const tn::key& k, tn::load_context& load) {
                return load_task(how, from, k, load);
              }}};
}

/// Many at once, threads and coroutines, of which all need the same inner value.
void check_many(nest& all) {
  std::vector<std::future<tn::cached<kpi>>> threads;
  std::vector<support::under_way<tn::cached<kpi>>> coroutines;
  for (int i = 0; i < 8; ++i) {
    threads.push_back(on_thread([&all, i] { return all->fetch(gateway_health(acme, i)); }));
    coroutines.push_back(started(all->async_fetch(gateway_health(acme, i % 2 == 0 ? i : 100 + i))));
  }
  threads.push_back(on_thread([&all] { return all->fetch(inner()); }));
  for (std::size_t i = 0; i < coroutines.size(); ++i) {
    CHECK(*threads[i].get() == kpi{2, "inner"});
    CHECK(*coroutines[i].take() == kpi{2, "inner"});
  }
  CHECK(threads.back().get()->unit == "inner");
}

}  // namespace

TEST_CASE(
    "a plain loader on one thread may fetch other keys of its cache in any way, with many loads queued behind it") {
  for (const blocking_way& how : blocking_ways()) {
    for (const unsigned threads : {1U, 2U}) {
      CAPTURE(how.name, threads);
      const support::must_end ends;
      const redis_rig redis;
      nest all = nest_of(threads, how);
      CHECK(*all->fetch(gateway_health(acme, "alone")) == kpi{2, "inner"});
      all->invalidate(inner());
      check_many(all);
    }
  }
}

TEST_CASE(
    "a task loader on one thread may fetch other keys of its cache in any way, with many loads queued behind it") {
  for (const task_way& how : task_ways) {
    for (const unsigned threads : {1U, 2U}) {
      CAPTURE(how.name, threads);
      const support::must_end ends;
      const redis_rig redis;
      nest all = nest_of(threads, how);
      CHECK(*all->fetch(gateway_health(acme, "alone")) == kpi{2, "inner"});
      CHECK(*tn::sync_wait(all->async_fetch(gateway_health(acme, "alone too"))) == kpi{2, "inner"});
      all->invalidate(inner());
      check_many(all);
    }
  }
}

TEST_CASE("a plain loader does not wait for a load that is queued behind it, but loads for itself") {
  for (const blocking_way& how : blocking_ways()) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    gate inside;
    gate release;
    std::atomic<int> inner_loads{0};
    nest all{1, nest::plain{[&](tn::cache<kpi>& from, const tn::key& k, tn::load_context& load) {
               if (is_inner(k)) return ++inner_loads, kpi{1, "inner"};
               inside.open();
               release.wait();
               return kpi{2, how.fetch_inner(from, load).unit};
             }}};
    auto outer = on_thread([&] { return all->fetch(gateway_health(acme, "outer")); });
    const support::opens_at_end cleanup{release};
    REQUIRE(inside.wait());
    auto queued = on_thread([&] { return all->fetch(inner()); });
    REQUIRE(eventually([&] { return redis.holds(tn::key{inner()}) || all->stats().loads == 2; }));
    release.open();
    CHECK(*outer.get() == kpi{2, "inner"});
    CHECK(queued.get()->unit == "inner");
    CHECK(inner_loads >= 1);
  }
}

TEST_CASE("a plain loader that fetches its own key gets recursive_load, in any way, also through another key") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key other = gateway_health(acme, "other");
  using cache = tn::cache<kpi>;
  using context = tn::load_context;
  const std::vector<std::pair<const char*, nest::plain>> loaders{
      {"fetch", [](cache& from, const tn::key& k, context&) { return *from.fetch(k); }},
      {"fetch with a loader",
       [](cache& from, const tn::key& k, context&) { return *from.fetch(k, [] { return kpi{}; }); }},
      {"fetch_many",
       [](cache& from, const tn::key& k, context&) {
         return *from.fetch_many(std::span{&k, 1})[0];
       }},
      {"async_fetch", [](cache& from, const tn::key& k, context&) { return *tn::sync_wait(from.async_fetch(k)); }},
      {"async_fetch in the context",
       [](cache& from, const tn::key& k, context& load) { return *tn::sync_wait(from.async_fetch(k, load)); }},
      {"async_fetch_many",
       [](cache& from, const tn::key& k, context&) { return *tn::sync_wait(from.async_fetch_many({k}))[0]; }},
      {"through another key",
       [&](cache& from, const tn::key& k, context&) { return *from.fetch(k == other ? inner() : other); }},
  };
  for (const auto& [name, load] : loaders) {
    CAPTURE(name);
    nest all{1, load};
    CHECK(support::failure_of([&] { (void)all->fetch(inner()); }).code == tn::errc::recursive_load);
    CHECK(support::failure_of(all->async_fetch(inner())).code == tn::errc::recursive_load);
    CHECK_FALSE(redis.holds(inner()));
  }
}

TEST_CASE(
    "a task loader that fetches its own key inside of its context gets recursive_load, also through another key") {
  const support::must_end ends;
  const redis_rig redis;
  for (const bool through_another : {false, true}) {
    for (const unsigned threads : {1U, 2U}) {
      CAPTURE(through_another, threads);
      nest all{threads,
               nest::later{[&](tn::cache<kpi>& from, const tn::key& k, tn::load_context& load) -> tn::task<kpi> {
                 const bool turns = through_another && k == inner();
                 auto fetching = from.async_fetch(turns ? inners()[0] : inner(), load);
                 const auto found = co_await std::move(fetching);
                 co_return *found;
               }}};
      CHECK(support::failure_of([&] { (void)all->fetch(inner()); }).code == tn::errc::recursive_load);
      CHECK(support::failure_of(all->async_fetch(inner())).code == tn::errc::recursive_load);
      CHECK_FALSE(redis.holds(inner()));
    }
  }
}

TEST_CASE("plain loaders on two threads that fetch each other's keys at the same time get recursive_load, and end") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key a = gateway_health(acme, "a");
  const tn::key b = gateway_health(acme, "b");
  gate in_a;
  gate in_b;
  nest all{2, nest::plain{[&](tn::cache<kpi>& from, const tn::key& k, tn::load_context&) {
             const bool is_a = k == a;
             (is_a ? in_a : in_b).open();
             (is_a ? in_b : in_a).wait();
             return *from.fetch(is_a ? b : a);
           }}};
  auto one = started(all->async_fetch(a));
  auto two = started(all->async_fetch(b));
  CHECK(support::failure_of(one).code == tn::errc::recursive_load);
  CHECK(support::failure_of(two).code == tn::errc::recursive_load);
}

TEST_CASE(
    "task loaders that fetch each other's keys at the same time inside of their contexts get recursive_load, and end") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key a = gateway_health(acme, "a");
  const tn::key b = gateway_health(acme, "b");
  gate in_a;
  gate in_b;
  nest all{2, nest::later{[&](tn::cache<kpi>& from, const tn::key& k, tn::load_context& load) -> tn::task<kpi> {
             const bool is_a = k == a;
             (is_a ? in_a : in_b).open();
             (is_a ? in_b : in_a).wait();
             auto fetching = from.async_fetch(is_a ? b : a, load);
             const auto found = co_await std::move(fetching);
             co_return *found;
           }}};
  auto one = started(all->async_fetch(a));
  auto two = started(all->async_fetch(b));
  CHECK(support::failure_of(one).code == tn::errc::recursive_load);
  CHECK(support::failure_of(two).code == tn::errc::recursive_load);
}

TEST_CASE("a loader may fetch a key whose load goes on after the thread that began it has ended") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  support::database from;
  tn::cache<kpi> cache{own, support::site::waiting({.executor = tn::inline_executor(), .hard_timeout = 20ms}),
                       [&]() { return from.async_ask(); }};
  run_on_big_stack([&] {  // whose memory is given back at once
    CHECK(support::failure_of([&] { (void)cache.fetch(inner()); }).code == tn::errc::load_timeout);
  });
  auto outer = on_thread([&] {
    return cache.fetch(gateway_health(acme, "outer"), [&] {
      const auto fault = support::thrown_by([&] { return cache.fetch(inner()); });
      return kpi{fault ? 1 : 0, "outer"};
    });
  });
  CHECK(*outer.get() == kpi{1, "outer"});  // it waits, and hard_timeout is over
  CHECK(from.asked() == 1);
  from.answer({1, "inner"});
  CHECK(eventually([&] { return cache.get(inner()).has_value(); }));
}

TEST_CASE("a cache's loader runs on its executor too where a task loader of another cache fetches") {
  for (const bool task_loader : {false, true}) {
    CAPTURE(task_loader);
    const support::must_end ends;
    const redis_rig redis;
    support::database from;
    support::background_site inside{from, {}, support::way{true, task_loader, ""}, 1};
    tn::thread_pool pool{1};
    const tn::client own{support::patient_options()};
    tn::cache<kpi> outside{own, support::site::waiting({.executor = pool.get_executor()}),
                           [&](const tn::key&, tn::load_context& load) -> tn::task<kpi> {
                             auto fetching = inside.cache().async_fetch(inner(), load);
                             const auto found = co_await std::move(fetching);
                             co_return *found;
                           }};
    from.answer({1, "inner"});
    CHECK(tn::sync_wait(outside.async_fetch(inner()))->unit == "inner");
    CHECK(inside.load_threads() == std::vector{inside.pool_thread()});
  }
}
