// The bytes and the time to live in Redis, which other services read and write too.

#include "support/cache_rig.hpp"
#include "support/kpi.hpp"

#include <tenantry/cache.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::ask;
using support::gateway_health;
using support::kpi;
using support::portfolio_kpi;
using support::redis_rig;

const tn::cache_options plain{.envelope = tn::envelope::bare};
constexpr std::int64_t hour_ms = 3'600'000;

/// The remaining times of keys that `store` writes, in ms; each at least as long as the true time to live was when it
/// was written, less `late`.
struct lives {
  std::vector<std::int64_t> ms;
  std::int64_t late = 0;
};

template <class Store>
lives lives_after(const redis_rig& redis, int keys, Store&& store) {
  const auto begin = std::chrono::steady_clock::now();
  std::vector<tn::command> questions;
  for (int i = 0; i < keys; ++i) {
    const tn::key k = gateway_health(acme, i);
    store(k);
    questions.emplace_back("PTTL", k);
  }
  lives found;
  for (const tn::reply& each : redis.client.execute_all(questions)) found.ms.push_back(each.integer());
  found.late = std::chrono::ceil<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count() + 1;
  return found;
}

}  // namespace

TEST_CASE("what another service stored with SETEX as JSON is a hit") {
  const redis_rig redis;
  CHECK(ask(redis_rig::server(),
            R"(SETEX kpi:acme:portfolio 300 "{\"unit\": \"kWh\", \"property_count\": 12, \"by\": []}")") == "+OK");
  bool loaded = false;
  tn::cache<kpi> cache{redis.client, plain, [&] { return loaded = true, kpi{}; }};
  const auto hit = cache.fetch(portfolio_kpi(acme));
  CHECK(*hit == kpi{12, "kWh"});
  CHECK(hit.source() == tn::source::redis);
  CHECK_FALSE(loaded);
  REQUIRE(cache.get(portfolio_kpi(acme)).has_value());
  CHECK(cache.stats().hits == 2);
  CHECK(cache.stats().misses == 0);
  const auto left = redis.pttl(portfolio_kpi(acme));
  CHECK(left > 200'000);  // a hit does not touch the other service's time to live
  CHECK(left <= 300'000);
}

TEST_CASE("what a cache stored is plain JSON under the key itself, and nothing else is in Redis") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, plain};
  (void)cache.fetch(portfolio_kpi(acme), [] { return kpi{12, "kWh"}; });
  CHECK(redis.raw(portfolio_kpi(acme)) == R"({"property_count":12,"unit":"kWh"})");
  CHECK(ask(redis_rig::server(), "STRLEN kpi:acme:portfolio") == ":34");
  CHECK(redis.client.execute("DBSIZE").integer() == 1);
  cache.put(portfolio_kpi(acme), kpi{13, "MWh"});
  CHECK(redis.raw(portfolio_kpi(acme)) == R"({"property_count":13,"unit":"MWh"})");
  CHECK(redis.client.execute("DBSIZE").integer() == 1);
  cache.invalidate(portfolio_kpi(acme));
  CHECK(redis.client.execute("DBSIZE").integer() == 0);
}

TEST_CASE("what another service deleted is a miss, and what it replaced is what a fetch answers") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, plain, [] { return kpi{1, "ours"}; }};
  (void)cache.fetch(portfolio_kpi(acme));
  CHECK(ask(redis_rig::server(), R"(SET kpi:acme:portfolio "{\"property_count\":2,\"unit\":\"theirs\"}")") == "+OK");
  CHECK(cache.fetch(portfolio_kpi(acme))->unit == "theirs");
  CHECK(ask(redis_rig::server(), "DEL kpi:acme:portfolio") == ":1");
  CHECK(cache.fetch(portfolio_kpi(acme))->unit == "ours");
}

TEST_CASE("a stored value lives longer than (1 - jitter) of the ttl and never longer than the ttl") {
  const redis_rig redis;
  const auto check = [](const lives& found, double jitter) {
    const auto floor = static_cast<std::int64_t>(static_cast<double>(hour_ms) * (1 - jitter)) - found.late;
    CHECK(*std::min_element(found.ms.begin(), found.ms.end()) > floor);
    CHECK(*std::max_element(found.ms.begin(), found.ms.end()) <= hour_ms);
    CHECK(std::set(found.ms.begin(), found.ms.end()).size() > found.ms.size() / 2);  // they do not expire together
  };
  tn::cache<kpi> default_jitter{redis.client, {.ttl = 1h}};
  check(lives_after(redis, 200, [&](const tn::key& k) { (void)default_jitter.fetch(k, [] { return kpi{}; }); }), 0.1);
  tn::cache<kpi> half{redis.client, {.ttl = 1h, .jitter = 0.5}};
  const auto put = lives_after(redis, 200, [&](const tn::key& k) { half.put(k, kpi{}); });
  check(put, 0.5);
  CHECK(*std::min_element(put.ms.begin(), put.ms.end()) < hour_ms * 6 / 10);  // the span is used
  CHECK(*std::max_element(put.ms.begin(), put.ms.end()) > hour_ms * 9 / 10);
}

TEST_CASE("without jitter a value lives exactly its ttl") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, {.ttl = 1h, .jitter = 0}};
  const auto found = lives_after(redis, 50, [&](const tn::key& k) { (void)cache.fetch(k, [] { return kpi{}; }); });
  for (const auto life : found.ms) {
    CHECK(life <= hour_ms);
    CHECK(life >= hour_ms - found.late);
  }
}

TEST_CASE("a ttl of milliseconds is kept as such, and the value is gone after it") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, {.ttl = 60ms}};
  CHECK(cache.fetch(portfolio_kpi(acme), [] { return kpi{1}; }).stored());
  CHECK(redis.pttl(portfolio_kpi(acme)) <= 60);
  CHECK(support::eventually([&] { return !redis.holds(portfolio_kpi(acme)); }));
  CHECK(cache.fetch(portfolio_kpi(acme), [] { return kpi{2}; })->property_count == 2);
}

TEST_CASE("a loader may choose another ttl, longer or shorter, and jitter still shortens it") {
  const redis_rig redis;
  for (const auto ttl : {std::chrono::milliseconds{1h}, std::chrono::milliseconds{1s}}) {
    tn::cache<kpi> cache{redis.client, {.ttl = 1min, .jitter = 0.5}};
    const auto chosen = [&](const tn::key&, tn::load_context& load) {
      load.ttl(ttl);
      return kpi{1};
    };
    const auto found = lives_after(redis, 20, [&](const tn::key& k) {
      cache.invalidate(k);
      CHECK(cache.fetch(k, chosen).stored());
    });
    CHECK(*std::max_element(found.ms.begin(), found.ms.end()) <= ttl.count());
    CHECK(*std::min_element(found.ms.begin(), found.ms.end()) > ttl.count() / 2 - found.late);
    CHECK(std::set(found.ms.begin(), found.ms.end()).size() > 2);
  }
}

TEST_CASE("a value that its loader does not want stored is answered only, and what was there before stays away") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const auto keep_back = [](const tn::key&, tn::load_context& load) {
    load.do_not_store();
    return kpi{1};
  };
  const auto no_life = [](const tn::key&, tn::load_context& load) {
    load.ttl(-5ms);
    return kpi{2};
  };
  const auto result = cache.fetch(portfolio_kpi(acme), keep_back);
  CHECK(result->property_count == 1);
  CHECK_FALSE(result.stored());
  CHECK(result.failure() == nullptr);
  CHECK_FALSE(redis.holds(portfolio_kpi(acme)));
  CHECK(cache.fetch(portfolio_kpi(acme), no_life)->property_count == 2);
  CHECK_FALSE(redis.holds(portfolio_kpi(acme)));
  CHECK(cache.stats().stores == 0);
  CHECK(cache.stats().fenced == 0);
  CHECK(cache.stats().store_failures == 0);
}

TEST_CASE("the longest ttl there is is either refused by name or kept") {
  const redis_rig redis;
  std::optional<tn::cache<kpi>> cache;
  try {
    cache.emplace(redis.client, tn::cache_options{.ttl = std::chrono::milliseconds::max(), .jitter = 0});
  } catch (const tn::invalid_option& refusal) {
    CHECK(std::string{refusal.what()}.find("ttl") != std::string::npos);
    return;
  }
  const auto result = cache->fetch(portfolio_kpi(acme), [] { return kpi{1}; });
  INFO(std::string{result.failure() == nullptr ? "" : result.failure()->what()});
  CHECK(result.stored());
}
