// What a cache counts is what happened.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/random_bytes.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <future>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::gateway_health;
using support::kpi;
using support::redis_rig;

}  // namespace

TEST_CASE("the counters add up to what was asked, whatever is at the keys") {
  const redis_rig redis;
  support::random_bytes random;
  tn::cache<kpi> cache{redis.client, {.failure_throttle = 0ms}};
  std::uint64_t puts = 0;
  std::uint64_t gets = 0;
  std::uint64_t fetches = 0;
  std::uint64_t gets_that_hit = 0;
  std::uint64_t throwing = 0;
  std::uint64_t unencodable = 0;
  std::uint64_t kept_back = 0;
  for (int i = 0; i < 600; ++i) {
    const tn::key k = gateway_health(acme, random.below(4));
    const auto fetch = [&](auto loader) {
      ++fetches;
      return support::thrown_by([&] { return cache.fetch(k, loader); });
    };
    switch (random.below(9)) {
      case 0:
        cache.invalidate(k);
        break;
      case 1:
        ++puts;
        cache.put(k, kpi{i, "put"});
        break;
      case 2:
        redis.set(k, "nonsense");
        break;
      case 3:
        redis.client.execute("DEL", k);
        redis.client.execute("LPUSH", k, "x");
        break;
      case 4:
        ++gets;
        gets_that_hit += cache.get(k) ? 1U : 0U;
        break;
      case 5:
        CHECK_FALSE(fetch([i] { return kpi{i, "fetched"}; }));
        break;
      case 6:
        CHECK_FALSE(fetch([&] { return ++unencodable, kpi{i, "\xff"}; }));
        break;
      case 7:
        (void)fetch([&]() -> kpi {
          ++throwing;
          throw std::runtime_error{"no"};
        });
        break;
      default:
        CHECK_FALSE(fetch([&](const tn::key&, tn::load_context& load) {
          ++kept_back;
          load.do_not_store();
          return kpi{i};
        }));
    }
  }
  const tn::cache_stats stats = cache.stats();
  CHECK(stats.hits + stats.misses == fetches + gets);
  CHECK(stats.read_failures == 0);
  CHECK(stats.undecodable > 0);
  CHECK(stats.wrong_type > 0);
  CHECK(fetches == (stats.hits - gets_that_hit) + stats.loads);
  CHECK(throwing > 0);
  CHECK(stats.load_failures == throwing);
  CHECK(unencodable > 0);
  CHECK(stats.encode_failures == unencodable);
  CHECK(stats.stores == puts + stats.loads - throwing - unencodable - kept_back);
  CHECK(stats.store_failures == 0);
  CHECK(stats.waits == 0);
  CHECK(stats.fenced == 0);
}

TEST_CASE("the counters add up with many threads: each fetch hits or misses, and each load ends in one way") {
  constexpr int threads = 8;
  constexpr int rounds = 150;
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, {.failure_throttle = 0ms}};
  support::random_bytes random;
  std::atomic<std::uint64_t> loads{0};
  std::atomic<std::uint64_t> throwing{0};
  std::vector<std::future<void>> running;
  for (int t = 0; t < threads; ++t) {
    running.push_back(support::on_thread([&, seed = random.number()] {
      std::mt19937_64 own{seed};
      for (int i = 0; i < rounds; ++i) {
        const tn::key k = gateway_health(acme, own() % 3);
        if (own() % 4 == 0) cache.invalidate(k);
        const bool fails = own() % 5 == 0;
        (void)support::thrown_by([&] {
          return cache.fetch(k, [&]() -> kpi {
            ++loads;
            if (!fails) return kpi{i, "fetched"};
            ++throwing;
            throw support::odd_fault{i};
          });
        });
      }
    }));
  }
  for (auto& each : running) each.get();
  const tn::cache_stats stats = cache.stats();
  CHECK(stats.loads == loads);
  CHECK(stats.load_failures == throwing);
  CHECK(stats.hits + stats.loads + stats.waits >= std::uint64_t{threads} * rounds);  // who waited may load after all
  CHECK(stats.loads <= stats.misses);
  CHECK(stats.loads == stats.load_failures + stats.stores + stats.fenced);
  CHECK(stats.hits + stats.misses == std::uint64_t{threads} * rounds);
  CHECK(stats.read_failures + stats.store_failures + stats.encode_failures + stats.undecodable == 0);
}

TEST_CASE("the counters add up with loads in the background: each fetch hits or misses, each load ends in one way") {
  constexpr int callers = 8;
  constexpr int rounds = 100;
  const support::must_end ends;
  const redis_rig redis;
  for (const bool batch : {false, true}) {
    CAPTURE(batch);
    support::random_bytes random;
    std::atomic<std::uint64_t> loads{0};
    std::atomic<std::uint64_t> throwing{0};
    const auto load = [&](const tn::key& k) {
      const auto number = ++loads;
      if (number % 3 == 0) std::this_thread::sleep_for(3ms);
      if (number % 5 != 0) return kpi{1, k.str()};
      ++throwing;
      throw std::runtime_error{"no"};
    };
    const auto load_all = [&](std::span<const tn::key> keys) {
      loads += keys.size();
      std::vector<kpi> values;
      for (const tn::key& k : keys) values.push_back({1, k.str()});
      return values;
    };
    tn::thread_pool pool{2};
    const tn::client own{support::patient_options()};
    tn::cache<kpi> cache{own,
                         support::site::waiting({.ttl = 30ms,
                                                 .jitter = 0,
                                                 .stale_for = 30ms,
                                                 .refresh_ahead = 0.5,
                                                 .executor = pool.get_executor(),
                                                 .soft_timeout = 1ms,
                                                 .hard_timeout = 2ms,
                                                 .failure_throttle = 2ms}),
                         load, load_all};
    std::atomic<std::uint64_t> fetches{0};
    std::atomic<std::uint64_t> timeouts{0};
    std::vector<std::future<void>> running;
    for (int t = 0; t < callers; ++t) {
      running.push_back(support::on_thread([&, t, seed = random.number()] {
        std::mt19937_64 own_random{seed};
        for (int i = 0; i < rounds; ++i) {
          const tn::key k = gateway_health(acme, own_random() % 3);
          if (own_random() % 20 == 0) cache.invalidate(k);
          if (own_random() % 4 == 0) cache.expire(k);
          const std::vector<tn::key> some{k, gateway_health(acme, own_random() % 3)};
          try {
            if (batch && i % 4 == 0) {
              fetches += some.size();
              t % 2 == 0 ? (void)cache.fetch_many(some) : (void)tn::sync_wait(cache.async_fetch_many(some));
            } else {
              ++fetches;
              t % 2 == 0 ? (void)cache.fetch(k) : (void)tn::sync_wait(cache.async_fetch(k));
            }
          } catch (const tn::timeout_error&) {
            ++timeouts;
          } catch (const std::exception&) {  // of the loader, or load_failed
          }
        }
      }));
    }
    for (auto& each : running) each.get();
    CHECK(cache.close(20s));
    const tn::cache_stats stats = cache.stats();
    CHECK(stats.hits + stats.misses == fetches);
    CHECK(stats.loads == loads);
    CHECK(stats.load_failures == throwing);
    CHECK(stats.loads == stats.load_failures + stats.stores + stats.fenced);
    CHECK(stats.refreshes <= stats.loads);
    CHECK(stats.hits > 0);
    CHECK(stats.stale > 0);
    CHECK(stats.timeouts >= timeouts);  // of several in one call the first is thrown
    if (!batch) CHECK(stats.timeouts == timeouts);
    CHECK(stats.read_failures + stats.store_failures + stats.encode_failures + stats.undecodable == 0);
  }
}

TEST_CASE("a value that put could not write counts as an encode failure") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  CHECK_THROWS_AS(cache.put(gateway_health(acme, 1), kpi{1, "\xff"}), tn::error);
  CHECK(cache.stats().encode_failures == 1);
  CHECK(cache.stats().store_failures == 0);
}
