// What a near cache answers from memory: every kind of read, without a round trip, for as long as the caller holds it.

#include "support/async_calls.hpp"
#include "support/background.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/near_rig.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::bare_near_by;
using support::check_kept_by_reading;
using support::comes_near;
using support::eventually;
using support::gateway_health;
using support::is_near;
using support::kpi;
using support::near_by;
using support::portfolio_kpi;
using support::reads;
using support::redis_rig;
using support::site;
using support::tracks;
using support::writes_of;

kpi not_called() { throw support::odd_fault{1}; }

std::vector<tn::key> gateways(int count) {
  std::vector<tn::key> all;
  all.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) all.push_back(gateway_health(acme, i));
  return all;
}
/// By a site without a near cache: whoever reads it afterwards finds it unchanged.
void put_all(const std::vector<tn::key>& keys) {
  site plain;
  int value = 0;
  for (const tn::key& each : keys) plain.cache.put(each, {value++, "stored"});
}

/// Counts what it decodes.
struct counting_codec {
  [[nodiscard]] std::string encode(const std::string& value) const { return value; }
  [[nodiscard]] std::string decode(std::string_view bytes) const {
    ++decoded;
    return std::string{bytes};
  }
  static inline std::atomic<int> decoded{0};
};

}  // namespace

TEST_CASE("near: what was read once is given from memory, without a round trip, with all that the first read said") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  put_all({k});
  site one{near_by()};
  REQUIRE(tracks(one.cache));
  const auto first = one.cache.fetch(k, not_called);
  REQUIRE(first.source() == tn::source::redis);
  const auto at_server = reads(redis.client);
  const auto sent = writes_of(one.redis);
  for (int i = 0; i < 100; ++i) {
    const auto hit = one.cache.fetch(k, not_called);
    REQUIRE(hit.source() == tn::source::near);
    CHECK(*hit == *first);
    CHECK(hit.stored());
    CHECK_FALSE(hit.absent());
    CHECK(hit.failure() == nullptr);
    CHECK(hit.computed_at() == first.computed_at());
  }
  CHECK(one.cache.get(k).value().source() == tn::source::near);
  CHECK(reads(redis.client) == at_server);
  CHECK(writes_of(one.redis) == sent);
}

TEST_CASE("near: a computed value is taken from Redis by the next fetch, and from memory by those after it") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  site one{near_by()};
  REQUIRE(tracks(one.cache));
  CHECK(one.cache.fetch(k, [] { return kpi{1}; }).source() == tn::source::computed);
  CHECK(one.cache.fetch(k, not_called).source() == tn::source::redis);
  REQUIRE(comes_near(one.cache, k));
  CHECK(one.cache.fetch(k, not_called)->property_count == 1);
}

TEST_CASE("near: get, fetch, fetch_many and their coroutines all read from memory, and fill it") {
  const support::must_end ends;
  const redis_rig redis;
  const std::vector<tn::key> keys = gateways(4);
  put_all(keys);
  using found = std::vector<tn::cached<kpi>>;
  const tn::client client{support::patient_options()};
  const auto check = [&](const char* name, const auto& read) {
    CAPTURE(name);
    tn::cache<kpi> cache{client, near_by(), not_called};
    REQUIRE(tracks(cache));
    const found first = read(cache);
    const auto sent = writes_of(client);
    const found second = read(cache);
    CHECK(writes_of(client) == sent);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      CAPTURE(i);
      CHECK(first[i].source() == tn::source::redis);
      CHECK(second[i].source() == tn::source::near);
      CHECK(second[i]->property_count == static_cast<int>(i));
      CHECK(is_near(cache, keys[i]));
    }
  };
  const auto each = [&](auto&& one) {
    found all;
    for (const tn::key& k : keys) all.push_back(one(k));
    return all;
  };
  check("get", [&](auto& cache) { return each([&](const tn::key& k) { return cache.get(k).value(); }); });
  check("fetch", [&](auto& cache) { return each([&](const tn::key& k) { return cache.fetch(k); }); });
  check("fetch_many", [&](auto& cache) { return cache.fetch_many(keys); });
  check("async_get",
        [&](auto& cache) { return each([&](const tn::key& k) { return tn::sync_wait(cache.async_get(k)).value(); }); });
  check("async_fetch",
        [&](auto& cache) { return each([&](const tn::key& k) { return tn::sync_wait(cache.async_fetch(k)); }); });
  check("async_fetch_many", [&](auto& cache) { return tn::sync_wait(cache.async_fetch_many(keys)); });
}

TEST_CASE("near: fetch_many asks Redis only for what is not in memory, and gives all in their order") {
  const support::must_end ends;
  const redis_rig redis;
  const std::vector<tn::key> keys = gateways(12);
  put_all(keys);
  const tn::client client{support::patient_options()};
  tn::cache<kpi> cache{client, near_by(), not_called};
  REQUIRE(tracks(cache));
  for (std::size_t i = 0; i < keys.size(); i += 2) (void)cache.get(keys[i]);
  for (const bool from_memory : {false, true}) {
    const auto found = cache.fetch_many(keys);
    REQUIRE(found.size() == keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      CAPTURE(i);
      CHECK(found[i]->property_count == static_cast<int>(i));
      CHECK(found[i].source() == (from_memory || i % 2 == 0 ? tn::source::near : tn::source::redis));
    }
  }
}

TEST_CASE("near: that there is no value is kept too, and counted") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  site plain{{.negative_ttl = 5min}};
  plain.cache.put(k, std::nullopt);
  site one{near_by({.negative_ttl = 5min})};
  REQUIRE(tracks(one.cache));
  CHECK(one.cache.fetch(k, not_called).source() == tn::source::redis);
  const auto hit = one.cache.fetch(k, not_called);
  CHECK(hit.source() == tn::source::near);
  CHECK(hit.absent());
  CHECK(hit.shared() == nullptr);
  CHECK(one.cache.near_stats().absent == 1);
  CHECK(one.cache.near_stats().hits == 1);
}

TEST_CASE("near: values of other programs, without an envelope, are kept as well") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  redis.set(k, "theirs");
  tn::cache<std::string> cache{redis.client, bare_near_by()};
  REQUIRE(tracks(cache));
  check_kept_by_reading(cache, k);
  CHECK(support::text_at(cache, k) == "theirs");
  CHECK_FALSE(cache.get(k).value().computed_at().has_value());
}

TEST_CASE("near: a cache that does not ask for it keeps nothing and counts nothing, beside one that does") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  put_all({k});
  site one{near_by()};
  tn::cache<kpi> without{one.redis};
  REQUIRE(tracks(one.cache));
  REQUIRE(comes_near(one.cache, k));
  for (int i = 0; i < 10; ++i) CHECK(without.get(k).value().source() == tn::source::redis);
  const auto none = without.near_stats();
  CHECK_FALSE(none.tracking);
  CHECK(none.values + none.bytes + none.hits + none.stores == 0);
}

TEST_CASE("near: a value that a caller holds stays as it is, when it was changed, made room for, and its cache ended") {
  const support::must_end ends;
  const redis_rig redis;
  const std::vector<tn::key> keys = gateways(64);
  put_all(keys);
  std::vector<tn::cached<kpi>> held;
  std::vector<std::shared_ptr<const kpi>> shares;
  std::vector<tn::cached<kpi>> copies;
  {
    const tn::client client{support::patient_options()};
    auto cache = std::make_unique<tn::cache<kpi>>(client, near_by({}, {.max_bytes = 64U << 10U, .max_age = 1h}));
    REQUIRE(tracks(*cache));
    for (const tn::key& k : keys) {
      (void)cache->get(k);
      held.push_back(cache->get(k).value());
      REQUIRE(held.back().source() == tn::source::near);
      if (held.size() % 2 == 0) continue;  // nothing else keeps that value
      shares.push_back(held.back().shared());
      copies.push_back(held.back());
    }
    for (const tn::key& k : keys) cache->put(k, {-1, "changed"});
    for (int i = 1000; i < 3000; ++i) {
      const tn::key k = gateway_health(acme, i);
      cache->put(k, {i, std::string(100, 'x')});
      (void)cache->get(k);
    }
    CHECK(cache->near_stats().evictions > 0);
    cache.reset();
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const kpi expected{static_cast<int>(i), "stored"};
    CHECK(*held[i] == expected);
    if (i % 2 != 0) continue;
    CHECK(*shares[i / 2] == expected);
    CHECK(*copies[i / 2] == expected);
  }
}

TEST_CASE("near: hits that are held are moved, copied, and given back by other threads") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  put_all({k});
  site one{near_by()};
  REQUIRE(tracks(one.cache));
  check_kept_by_reading(one.cache, k);
  std::vector<tn::cached<kpi>> held;
  while (held.size() < 100) held.push_back(one.cache.get(k).value());  // moved as the vector grows
  std::rotate(held.begin(), held.begin() + 33, held.end());
  auto elsewhere = support::on_thread([others = std::move(held)]() mutable {
    const bool all = std::ranges::all_of(others, [](const auto& each) { return each->unit == "stored"; });
    others.erase(others.begin(), others.begin() + 50);
    return std::pair{all, std::move(others)};
  });
  auto [all, rest] = elsewhere.get();
  CHECK(all);
  tn::cached<kpi> last = rest.front();
  last = rest.back();
  rest.clear();
  one.cache.invalidate(k);
  CHECK(last->unit == "stored");
  CHECK(last.source() == tn::source::near);
  tn::cached<kpi> from = last;
  const tn::cached<kpi> to = std::move(from);
  CHECK(from.absent());  // NOLINT(bugprone-use-after-move): promised
  CHECK(to->unit == "stored");
}

TEST_CASE("near: counters say what is held, what it was asked, and what it left out") {
  const support::must_end ends;
  const redis_rig redis;
  const std::vector<tn::key> keys = gateways(5);
  put_all(keys);
  site one{near_by()};
  REQUIRE(tracks(one.cache));
  for (const tn::key& k : keys) {
    for (int i = 0; i < 3; ++i) (void)one.cache.get(k);
  }
  auto seen = one.cache.near_stats();
  CHECK(seen.values == 5);
  CHECK(seen.bytes >= 5 * sizeof(kpi));
  CHECK(seen.stores == 5);
  CHECK(seen.hits == 10);
  CHECK(seen.absent == 0);
  CHECK(seen.evictions == 0);
  CHECK(seen.flushes_push_lost + seen.flushes_lane_lost == 0);
  CHECK(one.cache.stats().hits == 5);  // of Redis
  one.cache.invalidate(keys[0]);
  one.cache.put(keys[1], {7});
  seen = one.cache.near_stats();
  CHECK(seen.values == 3);
  CHECK(eventually([&] { return one.cache.near_stats().invalidations >= 2; }));
  CHECK(eventually([&] { return one.cache.near_stats().push_delay.count >= 2; }));
}

TEST_CASE("T27: of many who read a value at one time one decodes it") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<std::string, counting_codec> cache{redis.client, near_by(), [] { return std::string{"loaded"}; }};
  REQUIRE(eventually([&] { return cache.near_stats().tracking; }));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, "v");
  const std::vector<tn::key> ten(10, k);
  counting_codec::decoded = 0;
  const auto all = cache.fetch_many(ten);
  for (const auto& each : all) CHECK(*each == "v");
  CHECK(counting_codec::decoded == 1);
  CHECK(all.front().shared() == all.back().shared());
}
