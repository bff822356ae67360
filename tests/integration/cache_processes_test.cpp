// Leases between real processes: many that start cold, and holders that die or are stopped.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/processes.hpp"
#include "support/random_bytes.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::eventually;
using support::gateway_health;
using support::kpi;
using support::portfolio_kpi;
using support::process;
using support::redis_rig;
using support::shared_memory;
using support::site;

/// What the processes of one test tell each other.
struct board {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::atomic<int> waiting{0};
  std::atomic<int> loads{0};
  std::atomic<int> wrong{0};
  std::atomic<int> not_stored{0};
  std::atomic<bool> inside{false};
  std::atomic<bool> release{false};

  /// For loaders that a test holds.
  void hold() {
    inside = true;
    (void)eventually([&] { return release.load(); });
  }
};

/// A process that loads a key until it is told to go on. Its result: 0 where its fetch gave its own value, stored as
/// said.
process holder(const shared_memory<board>& shared, tn::cache_options options, bool stored) {
  return process{[&shared, options, stored] {
    site own{options};
    const auto found = own.cache.fetch(portfolio_kpi(acme), [&] {
      shared->hold();
      return kpi{1, "holder"};
    });
    return found->unit == "holder" && found.stored() == stored && found.failure() == nullptr ? 0 : 1;
  }};
}

}  // namespace

TEST_CASE("1000 threads of 10 processes that start cold run the loader once") {
  constexpr int processes = 10;
  constexpr int threads = 100;
  const redis_rig redis;
  const shared_memory<board> shared;
  std::vector<process> running;
  for (int p = 0; p < processes; ++p) {
    running.emplace_back([&shared] {
      site own;
      std::vector<std::thread> fetching;
      for (int t = 0; t < threads; ++t) {
        fetching.emplace_back([&] {
          ++shared->ready;
          (void)eventually([&] { return shared->go.load(); });
          const auto found = own.cache.fetch(portfolio_kpi(acme), [&] {
            ++shared->loads;
            shared->hold();
            return kpi{7, "kWh"};
          });
          if (!(*found == kpi{7, "kWh"})) ++shared->wrong;
          if (!found.stored()) ++shared->not_stored;
        });
      }
      if (eventually([&] { return own.cache.stats().waits >= threads - 1; })) ++shared->waiting;
      for (std::thread& each : fetching) each.join();
      return 0;
    });
  }
  CHECK(eventually([&] { return shared->ready == processes * threads; }));
  shared->go = true;
  CHECK(eventually([&] { return shared->inside.load(); }));
  CHECK(eventually([&] { return shared->waiting == processes; }));
  shared->release = true;
  for (process& each : running) CHECK(each.result() == 0);
  CHECK(shared->loads == 1);
  CHECK(shared->wrong == 0);
  CHECK(shared->not_stored == 0);
}

TEST_CASE("a process that dies while it loads is replaced by one that waited, which stores its value") {
  const redis_rig redis;
  const shared_memory<board> shared;
  process first = holder(shared, site::waiting({.lease_ttl = support::brief_lease}), true);
  REQUIRE(eventually([&] { return shared->inside.load(); }));
  const support::must_end ends;
  site second{site::waiting({.lease_ttl = support::brief_lease})};
  support::waiting_fetch waiting{second, portfolio_kpi(acme), {2, "second"}};
  CHECK(waiting.loads() == 0);
  first.kill();
  const auto found = waiting.result();
  CHECK(found->unit == "second");
  CHECK(found.stored());  // not so for an own load at the end of lease_wait
  CHECK(waiting.loads() == 1);
}

TEST_CASE("of many that wait for a process that dies one loads, also where they are of several processes") {
  const redis_rig redis;
  const shared_memory<board> shared;
  process first = holder(shared, site::waiting({.lease_ttl = support::brief_lease}), true);
  REQUIRE(eventually([&] { return shared->inside.load(); }));
  std::vector<process> others;
  for (int p = 0; p < 4; ++p) {
    others.emplace_back([&shared] {
      site own{site::waiting({.lease_ttl = support::brief_lease})};
      std::vector<std::thread> fetching;
      for (int t = 0; t < 5; ++t) {
        fetching.emplace_back([&] {
          const auto found = own.cache.fetch(portfolio_kpi(acme), [&] {
            ++shared->loads;
            return kpi{2, "other"};
          });
          if (found->unit != "other") ++shared->wrong;
        });
      }
      if (eventually([&] { return own.cache.stats().waits == 5; })) ++shared->ready;
      for (std::thread& each : fetching) each.join();
      return 0;
    });
  }
  CHECK(eventually([&] { return shared->ready == 4; }));
  CHECK(shared->loads == 0);
  first.kill();
  for (process& each : others) CHECK(each.result() == 0);
  CHECK(shared->loads == 1);
  CHECK(shared->wrong == 0);
}

TEST_CASE("a process that is stopped past its lease stores nothing, and its own caller still gets its value") {
  const redis_rig redis;
  const shared_memory<board> shared;
  process first = holder(shared, site::waiting({.lease_ttl = 200ms}), false);
  REQUIRE(eventually([&] { return shared->inside.load(); }));
  const support::must_end ends;
  REQUIRE(first.pause());
  site second{site::waiting({.lease_ttl = 200ms})};
  const auto found = second.cache.fetch(portfolio_kpi(acme), [] { return kpi{2, "second"}; });
  CHECK(found->unit == "second");
  CHECK(found.stored());
  shared->release = true;
  first.resume();
  CHECK(first.result() == 0);
  CHECK(second.cache.get(portfolio_kpi(acme)).value()->unit == "second");
}

TEST_CASE("a process that is stopped past its lease stores nothing, also when the second load still runs") {
  const redis_rig redis;
  const shared_memory<board> shared;
  process first = holder(shared, site::waiting({.lease_ttl = 200ms}), false);
  REQUIRE(eventually([&] { return shared->inside.load(); }));
  const support::must_end ends;
  REQUIRE(first.pause());
  site second{site::waiting({.lease_ttl = 200ms})};
  support::load_held load{second, portfolio_kpi(acme), {2, "second"}};  // has the lease of the first
  shared->release = true;
  first.resume();
  CHECK(first.result() == 0);
  CHECK_FALSE(redis.holds(portfolio_kpi(acme)));
  CHECK(load.finish().stored());
}

TEST_CASE("two processes whose loaders fetch each other's key both end, with values") {
  const redis_rig redis;
  const shared_memory<board> shared;
  std::vector<process> running;
  for (int p = 0; p < 2; ++p) {
    running.emplace_back([&shared, p] {
      site own{{.lease_wait = 60s}};  // longer than this test waits for its processes
      const tn::key wanted = gateway_health(acme, 1 - p);
      const auto found = own.cache.fetch(gateway_health(acme, p), [&](const tn::key& k) {
        ++shared->ready;
        (void)eventually([&] { return shared->ready == 2; });  // both loads are under way
        const auto nested = own.cache.fetch(wanted, [&] { return kpi{1, wanted.str()}; });
        return kpi{nested->unit == wanted.str() ? 1 : 0, k.str()};
      });
      return *found == kpi{1, gateway_health(acme, p).str()} ? 0 : 1;
    });
  }
  for (process& each : running) CHECK(each.result() == 0);
}

TEST_CASE("processes that fetch the same keys together, in any order, all end with the right values") {
  constexpr std::size_t keys = 8;
  const redis_rig redis;
  const shared_memory<board> shared;
  support::random_bytes random;
  std::vector<process> running;
  for (int p = 0; p < 2; ++p) {
    running.emplace_back([&shared, seed = std::uint64_t{random.below(1U << 30U)}] {
      const tn::client redis_client{support::patient_options()};
      tn::cache<kpi> cache{redis_client, {.ttl = 5ms, .lease_wait = 60s}, [&](const tn::key& k) {
                             ++shared->loads;
                             std::this_thread::sleep_for(1ms);  // what a query takes
                             return kpi{1, k.str()};
                           }};
      const auto fetch_some = [&](std::uint64_t own_seed) {
        std::mt19937_64 own{own_seed};
        std::vector<tn::key> wanted;
        for (std::size_t n = 0; n < keys; ++n) wanted.push_back(gateway_health(acme, n));
        for (int i = 0; i < 300; ++i) {
          std::shuffle(wanted.begin(), wanted.end(), own);
          const std::size_t count = 1 + own() % keys;
          const auto found = cache.fetch_many(std::span{wanted}.first(count));
          for (std::size_t n = 0; n < count; ++n) {
            if (found[n]->unit != wanted[n].str()) ++shared->wrong;
          }
        }
      };
      std::thread second{[&] { fetch_some(seed + 1); }};
      fetch_some(seed);
      second.join();
      return 0;
    });
  }
  for (process& each : running) CHECK(each.result() == 0);
  CHECK(shared->wrong == 0);
  CHECK(shared->loads > 2 * static_cast<int>(keys));
}

TEST_CASE("two processes that load each a key and then want the other's, by fetch_many, both end") {
  const redis_rig redis;
  const shared_memory<board> shared;
  std::vector<process> running;
  for (int p = 0; p < 2; ++p) {
    running.emplace_back([&shared, p] {
      const tn::client redis_client{support::patient_options()};
      const tn::key own = gateway_health(acme, p);
      const tn::key other = gateway_health(acme, 1 - p);
      std::atomic<bool> started{false};
      tn::cache<kpi> cache{redis_client, {.lease_wait = 60s}, [&](const tn::key& k) {
                             started = true;
                             ++shared->ready;
                             (void)eventually([&] { return shared->ready >= 2; });
                             return kpi{1, k.str()};
                           }};
      std::thread loading{[&] { (void)cache.fetch(own); }};
      (void)eventually([&] { return shared->ready == 2; });  // each has the lease of its own key
      const std::vector<tn::key> both{own, other};
      const auto found = cache.fetch_many(both);
      loading.join();
      return found[0]->unit == own.str() && found[1]->unit == other.str() ? 0 : 1;
    });
  }
  for (process& each : running) CHECK(each.result() == 0);
}
