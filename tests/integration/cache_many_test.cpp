// Many keys in one call.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/random_bytes.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/tag.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <initializer_list>
#include <map>
#include <mutex>
#include <optional>
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
using support::site;

const tn::tenant_id& globex() {
  static const tn::tenant_id other{"globex"};
  return other;
}

std::vector<tn::key> keys_of(std::initializer_list<int> numbers) {
  std::vector<tn::key> keys;
  for (const int n : numbers) keys.push_back(gateway_health(acme, n));
  return keys;
}

kpi named(const tn::key& k) { return {1, k.str()}; }

/// Loads one key after another, and counts.
struct one_by_one {
  std::atomic<int>* calls;

  kpi operator()(const tn::key& k) const {
    ++*calls;
    return named(k);
  }
};

/// How many round trips a call of this client takes.
template <class Call>
std::uint64_t round_trips(const tn::client& redis, Call&& call) {
  const auto count = [&redis] {
    std::uint64_t all = 0;
    for (const auto& lane : redis.metrics().lanes) all += lane.writes;
    return all;
  };
  const std::uint64_t before = count();
  call();
  return count() - before;
}

}  // namespace

TEST_CASE("fetch_many gives the values of all keys in their order, loaded or not, also of several tenants") {
  const redis_rig redis;
  std::atomic<int> calls{0};
  tn::cache<kpi> cache{redis.client, {}, one_by_one{&calls}};
  const std::vector<tn::key> keys{gateway_health(acme, 3), gateway_health(globex(), 1), gateway_health(acme, 1),
                                  gateway_health(globex(), 3), gateway_health(acme, 2)};
  (void)cache.fetch(keys[2]);
  (void)cache.fetch(keys[3]);
  CHECK(calls == 2);
  for (int round = 0; round < 2; ++round) {
    const auto found = cache.fetch_many(keys);
    REQUIRE(found.size() == keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      CAPTURE(round, i);
      CHECK(found[i]->unit == keys[i].str());
      CHECK(found[i].stored());
      const bool was_there = round == 1 || i == 2 || i == 3;
      CHECK(found[i].source() == (was_there ? tn::source::redis : tn::source::computed));
    }
  }
  CHECK(calls == 5);
}

TEST_CASE("fetch_many of no keys gives nothing, and of the same key twice gives it twice and loads it once") {
  const support::must_end ends;
  const redis_rig redis;
  std::atomic<int> calls{0};
  tn::cache<kpi> cache{redis.client, {}, one_by_one{&calls}};
  CHECK(cache.fetch_many({}).empty());
  const auto keys = keys_of({1, 2, 1, 1, 2});
  for (int round = 0; round < 2; ++round) {
    const auto found = cache.fetch_many(keys);
    REQUIRE(found.size() == keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) CHECK(found[i]->unit == keys[i].str());
    CHECK(calls == 2);
  }
  CHECK(support::failure_of([&] { (void)tn::cache<kpi>{redis.client}.fetch_many(keys); }).code ==
        tn::errc::invalid_option);
}

TEST_CASE("fetch_many is one round trip when all are there; else at most two before loading, and one after") {
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  std::uint64_t when_loading = 0;
  bool first = true;
  tn::cache<kpi> cache{own, {}, [&](const tn::key& k) {
                         if (std::exchange(first, false)) when_loading = own.metrics().lanes.at(0).writes;
                         return named(k);
                       }};
  (void)cache.fetch(gateway_health(acme, "first"));  // the server has the scripts and the stamp from here on
  std::vector<tn::key> keys;
  for (int n = 0; n < 30; ++n) keys.push_back(gateway_health(acme, n));
  const auto before = own.metrics().lanes.at(0).writes;
  first = true;
  CHECK(round_trips(own, [&] { (void)cache.fetch_many(keys); }) <= 3);
  CHECK(when_loading - before <= 2);
  CHECK(round_trips(own, [&] { (void)cache.fetch_many(keys); }) == 1);
  CHECK(cache.stats().stores == 31);
}

TEST_CASE("fetch_many of keys of several tenants that are all there is one round trip too") {
  const redis_rig redis;
  const tn::client own{support::patient_options()};
  tn::cache<kpi> cache{own, {}, named};
  const std::vector<tn::key> keys{gateway_health(acme, 1), gateway_health(globex(), 1)};
  (void)cache.fetch_many(keys);
  CHECK(round_trips(own, [&] { (void)cache.fetch_many(keys); }) == 1);
}

TEST_CASE("a batch loader is called once, with the keys that are missing, each once") {
  const redis_rig redis;
  std::vector<std::vector<std::string>> batches;
  std::atomic<int> calls{0};
  tn::cache<kpi> cache{redis.client, {}, one_by_one{&calls}, [&](std::span<const tn::key> missing) {
                         std::vector<kpi> values;
                         auto& batch = batches.emplace_back();
                         for (const tn::key& k : missing) {
                           batch.push_back(k.str());
                           values.push_back(named(k));
                         }
                         return values;
                       }};
  (void)cache.fetch(gateway_health(acme, 2));
  const auto keys = keys_of({1, 2, 3, 1, 4});
  for (int round = 0; round < 2; ++round) {
    const auto found = cache.fetch_many(keys);
    for (std::size_t i = 0; i < keys.size(); ++i) CHECK(found[i]->unit == keys[i].str());
  }
  CHECK(calls == 1);
  REQUIRE(batches.size() == 1);
  CHECK(batches[0] == std::vector<std::string>{keys[0].str(), keys[2].str(), keys[4].str()});
  CHECK(cache.get(keys[0]).has_value());
}

TEST_CASE("a batch loader may know that some values are absent, and its tags are those of each key's tenant") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client,
                       {.negative_ttl = 10min},
                       [] { return kpi{}; },
                       [](std::span<const tn::key> missing, tn::load_context& load) {
                         load.tag("batch");
                         std::vector<std::optional<kpi>> values;
                         for (const tn::key& k : missing) values.emplace_back(named(k));
                         values.front().reset();
                         return values;
                       }};
  const std::vector<tn::key> keys{gateway_health(acme, 1), gateway_health(acme, 2), gateway_health(globex(), 1)};
  const auto found = cache.fetch_many(keys);
  CHECK(found[0].absent());
  CHECK(found[1]->unit == keys[1].str());
  CHECK(found[2]->unit == keys[2].str());
  CHECK(cache.get(keys[0]).value().absent());
  tn::invalidator{redis.client, tn::catalog{gateway_health}}.invalidate(tn::tag{acme, "batch"});
  CHECK_FALSE(cache.get(keys[0]).has_value());
  CHECK_FALSE(cache.get(keys[1]).has_value());
  CHECK(cache.get(keys[2]).has_value());
}

TEST_CASE("a load that fails ends fetch_many with its exception, and the others are stored all the same") {
  const redis_rig redis;
  std::atomic<bool> fails{true};
  tn::cache<kpi> cache{redis.client, {.failure_throttle = 60s}, [&](const tn::key& k) {
                         if (fails && k == gateway_health(acme, 2)) throw support::odd_fault{2};
                         return named(k);
                       }};
  const auto keys = keys_of({1, 2, 3});
  CHECK_THROWS_AS(cache.fetch_many(keys), support::odd_fault);
  CHECK(cache.get(keys[0]).has_value());
  CHECK_FALSE(cache.get(keys[1]).has_value());
  CHECK(cache.get(keys[2]).has_value());
  CHECK(support::failure_of([&] { (void)cache.fetch_many(keys); }).code == tn::errc::load_failed);
  fails = false;
  cache.invalidate(keys[1]);
  CHECK(cache.fetch_many(keys)[1]->unit == keys[1].str());
}

TEST_CASE("a batch that fails ends fetch_many with its exception; those with a stale copy do not need it") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client,
                       {.stale_for = 1h, .failure_throttle = 0ms},
                       [] { return kpi{}; },
                       [](std::span<const tn::key>) -> std::vector<kpi> { throw support::odd_fault{2}; }};
  const auto keys = keys_of({1, 2});
  CHECK_THROWS_AS(cache.fetch_many(keys), support::odd_fault);
  for (const tn::key& k : keys) cache.put(k, named(k));
  for (const tn::key& k : keys) cache.expire(k);
  const auto copies = cache.fetch_many(keys);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    CHECK(copies[i]->unit == keys[i].str());
    CHECK(copies[i].source() == tn::source::stale);
  }
}

TEST_CASE("fetch_many stores what it loads before it waits for what another process loads") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site three;
  const tn::client two{support::patient_options()};
  std::atomic<int> calls{0};
  tn::cache<kpi> cache{two, site::waiting(), one_by_one{&calls}};
  const auto keys = keys_of({1, 2, 3});
  support::load_held load{one, keys[1], {1, "of another"}};
  auto fetching = on_thread([&] { return cache.fetch_many(keys); });
  CHECK(eventually([&] { return three.cache.get(keys[0]) && three.cache.get(keys[2]); }));
  CHECK(eventually([&] { return cache.stats().waits == 1; }));
  (void)load.finish();
  const auto found = fetching.get();
  CHECK(found[0]->unit == keys[0].str());
  CHECK(found[1]->unit == "of another");
  CHECK(found[2]->unit == keys[2].str());
  CHECK(calls == 2);
}

TEST_CASE("threads of two caches that fetch keys in any order share loads, and all end") {
  const support::must_end ends;
  const redis_rig redis;
  support::random_bytes random;
  const tn::client first{support::patient_options()};
  const tn::client second{support::patient_options()};
  std::mutex counting;
  std::map<std::string, int> loads;
  std::atomic<int> wrong{0};
  const auto loader = [&](const tn::key& k) {
    const std::lock_guard held{counting};
    ++loads[k.str()];
    return named(k);
  };
  tn::cache<kpi> one{first, site::waiting(), loader};
  tn::cache<kpi> two{second, site::waiting(), loader};
  std::vector<std::future<void>> running;
  for (int t = 0; t < 8; ++t) {
    std::vector<tn::key> keys;
    for (int n = 0; n < 12; ++n) keys.push_back(gateway_health(acme, random.below(10)));
    running.push_back(on_thread([&, t, keys] {
      const auto found = (t % 2 == 0 ? one : two).fetch_many(keys);
      for (std::size_t i = 0; i < keys.size(); ++i) {
        if (found[i]->unit != keys[i].str()) ++wrong;
      }
    }));
  }
  for (auto& each : running) each.get();
  CHECK(wrong == 0);
  for (const auto& [name, count] : loads) {
    CAPTURE(name);
    CHECK(count == 1);
  }
}
