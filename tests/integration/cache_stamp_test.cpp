// Invalidation by tenant and by tag: what it reaches, what it leaves alone, and what it costs.

#include "support/async_calls.hpp"
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
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
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

const tn::tenant_id& globex() {
  static const tn::tenant_id other{"globex"};
  return other;
}

const tn::catalog& all_keys() {
  static const tn::catalog keys{portfolio_kpi, gateway_health};
  return keys;
}

tn::cached<kpi> fetch_tagged(tn::cache<kpi>& cache, const tn::key& k, kpi value, const std::vector<std::string>& tags) {
  return cache.fetch(k, [&](const tn::key&, tn::load_context& load) {
    for (const std::string& name : tags) load.tag(name);
    return value;
  });
}

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

std::int64_t pttl_of(const redis_rig& redis, const std::string& name) {
  return redis.client.execute("PTTL", name).integer();
}

}  // namespace

TEST_CASE("an invalidated tag reaches the values that have it, in all caches, and no others") {
  const redis_rig redis;
  site one;
  site two;
  const tn::invalidator inv{redis.client, all_keys()};
  for (const bool softly : {false, true}) {
    (void)fetch_tagged(one.cache, gateway_health(acme, 1), {1, "old"}, {"a", "b"});
    (void)fetch_tagged(one.cache, gateway_health(acme, 2), {2, "old"}, {"b"});
    (void)fetch_tagged(one.cache, gateway_health(acme, 3), {3, "old"}, {});
    (void)fetch_tagged(one.cache, gateway_health(globex(), 1), {4, "old"}, {"a"});
    const tn::tag a{acme, "a"};
    softly ? inv.expire(a) : inv.invalidate(a);
    for (site* each : {&one, &two}) {
      CHECK_FALSE(each->cache.get(gateway_health(acme, 1)).has_value());
      CHECK(each->cache.get(gateway_health(acme, 2)).has_value());
      CHECK(each->cache.get(gateway_health(acme, 3)).has_value());
      CHECK(each->cache.get(gateway_health(globex(), 1)).has_value());
    }
    CHECK(fetch_tagged(two.cache, gateway_health(acme, 1), {1, "new"}, {"a"})->unit == "new");
    CHECK(one.cache.get(gateway_health(acme, 1)).value()->unit == "new");
  }
}

TEST_CASE("an invalidated tenant loses all its values, also those that were put, and no other tenant any") {
  const redis_rig redis;
  site one;
  site two;
  const tn::invalidator inv{redis.client, all_keys()};
  for (const bool softly : {false, true}) {
    (void)fetch_tagged(one.cache, gateway_health(acme, 1), {1, "old"}, {"a"});
    (void)fetch_tagged(one.cache, portfolio_kpi(acme), {2, "old"}, {});
    one.cache.put(gateway_health(acme, 3), {3, "old"});
    one.cache.put(gateway_health(globex(), 1), {4, "old"});
    (void)fetch_tagged(one.cache, gateway_health(globex(), 2), {4, "old"}, {"a"});
    softly ? inv.expire(acme) : inv.invalidate(acme);
    for (site* each : {&one, &two}) {
      CHECK_FALSE(each->cache.get(gateway_health(acme, 1)).has_value());
      CHECK_FALSE(each->cache.get(portfolio_kpi(acme)).has_value());
      CHECK_FALSE(each->cache.get(gateway_health(acme, 3)).has_value());
      CHECK(each->cache.get(gateway_health(globex(), 1)).has_value());
      CHECK(each->cache.get(gateway_health(globex(), 2)).has_value());
    }
    CHECK(fetch_tagged(two.cache, portfolio_kpi(acme), {2, "new"}, {})->unit == "new");
    CHECK(one.cache.get(portfolio_kpi(acme)).value()->unit == "new");
  }
}

TEST_CASE("what is served is what a model says, with names of any bytes, and tenants that look alike") {
  constexpr std::size_t keys = 4;
  const redis_rig redis;
  support::random_bytes random;
  site one;
  site two;
  const tn::invalidator inv{one.redis, all_keys()};
  const std::array<tn::tenant_id, 3> tenants{acme, tn::tenant_id{"acme2"}, tn::tenant_id{"ACME"}};
  std::vector<std::string> names{"a", "A", ":", "a:tag:a", std::string(1, '\0'), std::string(200, 'x')};
  while (names.size() < 10) names.push_back(random.id());

  struct entry {
    bool valid = false;
    int value = 0;
    std::vector<std::string> tags = {};
  };
  std::array<std::array<entry, keys>, 3> model;
  const auto check_all = [&] {
    for (std::size_t t = 0; t < tenants.size(); ++t) {
      for (std::size_t n = 0; n < keys; ++n) {
        const auto found = (random.below(2) == 0 ? one : two).cache.get(gateway_health(tenants[t], n));
        CAPTURE(t, n);
        REQUIRE(found.has_value() == model[t][n].valid);
        if (found) REQUIRE((*found)->property_count == model[t][n].value);
      }
    }
  };
  for (int i = 1; i <= 400; ++i) {
    const std::size_t t = random.below(tenants.size());
    const std::size_t n = random.below(keys);
    const tn::key k = gateway_health(tenants[t], n);
    entry& at = model[t][n];
    const std::string name = names[random.below(names.size())];
    const bool softly = random.below(2) == 0;
    const auto choice = random.below(10);
    CAPTURE(i, choice);
    if (choice < 5) {
      std::vector<std::string> tags;
      for (std::size_t left = random.below(4); left > 0; --left) tags.push_back(names[random.below(names.size())]);
      const auto found = fetch_tagged((random.below(2) == 0 ? one : two).cache, k, {i, {}}, tags);
      REQUIRE((found.source() == tn::source::redis) == at.valid);
      if (!at.valid) at = {.valid = true, .value = i, .tags = tags};
    } else if (choice < 8) {
      const tn::tag what{tenants[t], name};
      softly ? inv.expire(what) : inv.invalidate(what);
      for (entry& each : model[t]) {
        if (std::find(each.tags.begin(), each.tags.end(), name) != each.tags.end()) each.valid = false;
      }
    } else if (choice == 8) {
      two.cache.put(k, {i, {}});
      at = {.valid = true, .value = i};
    } else if (random.below(2) == 0) {
      softly ? inv.expire(tenants[t]) : inv.invalidate(tenants[t]);
      for (entry& each : model[t]) each.valid = false;
    } else {
      softly ? two.cache.expire(k) : two.cache.invalidate(k);
      at.valid = false;
    }
    check_all();
  }
}

TEST_CASE("invalidating a tenant or a tag is one command, whatever the number of values") {
  const redis_rig redis;
  site one;
  const tn::invalidator inv{one.redis, all_keys()};
  inv.invalidate(tn::tag{acme, "a"});  // the server has the scripts from here on
  inv.expire(tn::tag{acme, "a"});
  inv.invalidate(acme);
  inv.expire(acme);
  for (int n = 0; n < 50; ++n) (void)fetch_tagged(one.cache, gateway_health(acme, n), {n, {}}, {"a", "b"});
  const std::vector<std::function<void()>> ways{[&] { inv.invalidate(acme); },
                                                [&] { inv.expire(acme); },
                                                [&] {
                                                  inv.invalidate(tn::tag{acme, "a"});
                                                },
                                                [&] {
                                                  inv.expire(tn::tag{acme, "a"});
                                                },
                                                [&] { tn::sync_wait(inv.async_invalidate(acme)); },
                                                [&] {
                                                  tn::sync_wait(inv.async_expire(tn::tag{acme, "b"}));
                                                }};
  for (std::size_t i = 0; i < ways.size(); ++i) {
    CAPTURE(i);
    const auto before = one.commands();
    ways[i]();
    CHECK(one.commands() == before + 1);
  }
}

TEST_CASE("a tenant's stamp that is evicted takes all its values with it, for good, and no other tenant's") {
  const redis_rig redis;
  site one;
  for (int n = 0; n < 3; ++n) (void)fetch_tagged(one.cache, gateway_health(acme, n), {n, "old"}, {"a"});
  (void)fetch_tagged(one.cache, gateway_health(globex(), 0), {0, "old"}, {"a"});
  REQUIRE(redis.client.execute("DEL", "stamp:{acme}").integer() == 1);
  for (int n = 0; n < 3; ++n) CHECK_FALSE(one.cache.get(gateway_health(acme, n)).has_value());
  CHECK(one.cache.get(gateway_health(globex(), 0)).has_value());
  CHECK(fetch_tagged(one.cache, gateway_health(acme, 0), {0, "new"}, {"a"}).stored());  // a stamp is there again
  CHECK(one.cache.get(gateway_health(acme, 0)).value()->unit == "new");
  for (int n = 1; n < 3; ++n) CHECK_FALSE(one.cache.get(gateway_health(acme, n)).has_value());
}

TEST_CASE("a tag's stamp that is evicted brings nothing back, whether it was invalidated or not") {
  const redis_rig redis;
  site one;
  const tn::invalidator inv{redis.client, all_keys()};
  (void)fetch_tagged(one.cache, gateway_health(acme, 1), {1, "old"}, {"a"});
  inv.invalidate(tn::tag{acme, "a"});
  REQUIRE(redis.client.execute("DEL", "stamp:{acme}:tag:a").integer() == 1);
  CHECK_FALSE(one.cache.get(gateway_health(acme, 1)).has_value());
  (void)fetch_tagged(one.cache, gateway_health(acme, 2), {2, "new"}, {"a"});
  inv.invalidate(tn::tag{acme, "other"});
  CHECK(one.cache.get(gateway_health(acme, 2)).has_value());
  CHECK_FALSE(one.cache.get(gateway_health(acme, 1)).has_value());
}

TEST_CASE("a value found good after another tag was invalidated is one round trip again afterwards") {
  const redis_rig redis;
  site one;
  site two;
  const tn::invalidator inv{redis.client, all_keys()};
  const tn::key k = gateway_health(acme, 1);
  const auto not_called = [] { return kpi{2, "not called"}; };
  (void)fetch_tagged(one.cache, k, {1, "old"}, {"a", "b"});
  (void)one.cache.fetch(k, not_called);
  inv.invalidate(tn::tag{acme, "other"});
  (void)one.cache.fetch(k, not_called);  // the server has all scripts from here on
  (void)two.cache.fetch(k, not_called);
  for (int i = 0; i < 3; ++i) {
    inv.invalidate(tn::tag{acme, "other" + std::to_string(i)});
    CHECK(round_trips(one.redis, [&] { CHECK(one.cache.fetch(k, not_called)->unit == "old"); }) == 2);
    CHECK(eventually([&] {  // who finds it good may say so without waiting for the answer
      return round_trips(one.redis, [&] { (void)one.cache.fetch(k, not_called); }) == 1;
    }));
    CHECK(round_trips(two.redis, [&] { CHECK(two.cache.fetch(k, not_called)->unit == "old"); }) == 1);
  }
  inv.invalidate(tn::tag{acme, "b"});
  CHECK_FALSE(one.cache.get(k).has_value());
}

TEST_CASE("a tag or tenant that is invalidated while its value loads: the value is not served") {
  const redis_rig redis;
  site one;
  site two;
  const tn::invalidator inv{redis.client, all_keys()};
  const tn::key k = gateway_health(acme, 1);
  const std::vector<std::function<void()>> ways{[&] {
                                                  inv.invalidate(tn::tag{acme, "late"});
                                                },
                                                [&] {
                                                  inv.expire(tn::tag{acme, "late"});
                                                },
                                                [&] { inv.invalidate(acme); }, [&] { inv.expire(acme); }};
  for (std::size_t i = 0; i < ways.size(); ++i) {
    for (const bool before_naming : {true, false}) {
      CAPTURE(i, before_naming);
      const auto own = one.cache.fetch(k, [&](const tn::key&, tn::load_context& load) {
        if (!before_naming) load.tag("late");
        ways[i]();
        if (before_naming) load.tag("late");
        return kpi{1, "old"};
      });
      CHECK(own->unit == "old");
      CHECK_FALSE(two.cache.get(k).has_value());
      CHECK(fetch_tagged(two.cache, k, {2, "new"}, {"late"})->unit == "new");
      CHECK(one.cache.get(k).value()->unit == "new");
      one.cache.invalidate(k);
    }
  }
}

TEST_CASE("a load without tags that its tenant's invalidation overtakes is not served, whoever stored meanwhile") {
  const redis_rig redis;
  site one;
  site two;
  const tn::invalidator inv{redis.client, all_keys()};
  const tn::key k = gateway_health(acme, 1);
  for (const bool softly : {false, true}) {
    for (const bool put_meanwhile : {false, true}) {
      CAPTURE(softly, put_meanwhile);
      one.cache.invalidate(k);
      (void)one.cache.fetch(k, [&] {
        softly ? inv.expire(acme) : inv.invalidate(acme);
        if (put_meanwhile) two.cache.put(k, {2, "new"});
        return kpi{1, "old"};
      });
      CHECK(fetch_tagged(two.cache, k, {2, "new"}, {})->unit == "new");
      CHECK(one.cache.get(k).value()->unit == "new");
    }
  }
}

TEST_CASE("stamps have a time to live, longer than that of the values that need them") {
  const redis_rig redis;
  site one{{.ttl = 1h, .jitter = 0, .stale_for = 2h}};
  const tn::invalidator inv{redis.client, all_keys()};
  const tn::key k = gateway_health(acme, 1);
  const auto check = [&] {
    CHECK(pttl_of(redis, "stamp:{acme}") > redis.pttl(k));
    CHECK(redis.pttl(k) > 0);
  };
  one.cache.put(k, {1});
  check();
  (void)fetch_tagged(one.cache, gateway_health(acme, 2), {1}, {"a"});
  CHECK(pttl_of(redis, "stamp:{acme}:tag:a") > redis.pttl(gateway_health(acme, 2)));
  one.cache.invalidate(k);
  (void)one.cache.fetch(k, [](const tn::key&, tn::load_context& load) {
    load.ttl(90 * 24h);
    return kpi{1};
  });
  check();
  inv.invalidate(acme);
  CHECK(pttl_of(redis, "stamp:{acme}") > 0);
  (void)fetch_tagged(one.cache, k, {1}, {"a"});
  check();
  inv.invalidate(tn::tag{acme, "a"});
  CHECK(pttl_of(redis, "stamp:{acme}") > 0);
  CHECK(pttl_of(redis, "stamp:{acme}:tag:a") > 0);
  CHECK(redis.client.execute("TTL", "stamp:{acme}").integer() > 0);
}

TEST_CASE("a value with a long life stays valid when others of its tenant, with short lives, are long gone") {
  const redis_rig redis;
  site longer{{.ttl = 1h}};
  site shorter{{.ttl = 20ms}};
  const tn::key kept = gateway_health(acme, "kept");
  const tn::key gone = gateway_health(acme, "gone");
  (void)fetch_tagged(shorter.cache, gone, {1}, {"a"});
  (void)fetch_tagged(longer.cache, kept, {2, "kept"}, {"a"});
  (void)fetch_tagged(shorter.cache, gone, {3}, {"a"});
  shorter.cache.put(gone, {4});
  CHECK(eventually([&] { return !redis.holds(gone); }));
  CHECK(longer.cache.get(kept).has_value());
}

TEST_CASE("coroutines invalidate and expire, and a task outlives its invalidator") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  const tn::key k = gateway_health(acme, 1);
  const std::vector<std::function<tn::task<tn::delivery>(const tn::invalidator&)>> ways{
      [](const tn::invalidator& inv) { return inv.async_invalidate(acme); },
      [](const tn::invalidator& inv) { return inv.async_expire(acme); },
      [](const tn::invalidator& inv) {
        return inv.async_invalidate(tn::tag{acme, "a"});
      },
      [](const tn::invalidator& inv) {
        return inv.async_expire(tn::tag{acme, "a"});
      }};
  for (const auto& way : ways) {
    (void)fetch_tagged(one.cache, k, {1, "old"}, {"a"});
    REQUIRE(one.cache.get(k).has_value());
    auto inv = std::make_unique<tn::invalidator>(redis.client, all_keys());
    tn::task<tn::delivery> later = way(*inv);
    inv.reset();
    tn::sync_wait(std::move(later));
    CHECK_FALSE(one.cache.get(k).has_value());
  }
}

TEST_CASE("an invalidation that Redis does not answer throws, so that none is lost in silence") {
  const tn::client nowhere{"redis://127.0.0.1:1?timeout=200ms"};
  const tn::invalidator inv{nowhere, all_keys()};
  CHECK_THROWS_AS(inv.invalidate(acme), tn::error);
  CHECK_THROWS_AS(inv.expire(acme), tn::error);
  CHECK_THROWS_AS(inv.invalidate(tn::tag{acme, "a"}), tn::error);
  CHECK_THROWS_AS(inv.expire(tn::tag{acme, "a"}), tn::error);
  CHECK_THROWS_AS(tn::sync_wait(inv.async_invalidate(acme)), tn::error);
  CHECK_THROWS_AS(tn::sync_wait(inv.async_expire(tn::tag{acme, "a"})), tn::error);
}
