// Values beyond their time: stale copies, failed loads, and values that are loaded anew before they end.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/tag.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <functional>
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
using support::kpi;
using support::on_thread;
using support::portfolio_kpi;
using support::redis_rig;
using support::site;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}

/// A loader that fails, and counts.
struct failing {
  std::atomic<int> calls{0};

  kpi operator()() {
    ++calls;
    throw support::odd_fault{7};
  }
};

tn::cached<kpi> fetch_tagged(site& at, kpi value) {
  return at.cache.fetch(the_key(), [&](const tn::key&, tn::load_context& load) {
    load.tag("t");
    return value;
  });
}

}  // namespace

TEST_CASE("a value beyond its ttl is loaded anew, and given as a stale copy when that fails") {
  const redis_rig redis;
  site one{{.ttl = 30ms, .jitter = 0, .stale_for = 1h, .failure_throttle = 0ms}};
  (void)one.cache.fetch(the_key(), [] { return kpi{1, "old"}; });
  CHECK(eventually([&] { return !one.cache.get(the_key()).has_value(); }));
  failing loader;
  const auto copy = one.cache.fetch(the_key(), std::ref(loader));
  CHECK(copy->unit == "old");
  CHECK(copy.source() == tn::source::stale);
  CHECK(copy.computed_at().has_value());
  CHECK(copy.failure() == nullptr);
  CHECK(loader.calls == 1);
  CHECK(one.cache.stats().stale == 1);
  CHECK(one.cache.stats().load_failures == 1);
  CHECK_FALSE(one.cache.get(the_key()).has_value());  // a stale copy is no fresh value
  const auto fresh = one.cache.fetch(the_key(), [] { return kpi{2, "new"}; });
  CHECK(fresh->unit == "new");
  CHECK(fresh.source() == tn::source::computed);
  CHECK(fresh.stored());
}

TEST_CASE("after a failed load nobody calls the loader for failure_throttle: stale copies, also in other processes") {
  const redis_rig redis;
  const tn::cache_options options{.stale_for = 1h, .failure_throttle = 60s};
  site one{options};
  site two{options};
  one.cache.put(the_key(), {1, "old"});
  one.cache.expire(the_key());
  failing loader;
  for (int i = 0; i < 5; ++i) {
    for (site* each : {&one, &two}) {
      const auto copy = each->cache.fetch(the_key(), std::ref(loader));
      CHECK(copy->unit == "old");
      CHECK(copy.source() == tn::source::stale);
    }
  }
  CHECK(loader.calls == 1);
  CHECK(two.cache.stats().loads == 0);
  CHECK(two.cache.stats().stale == 5);
}

TEST_CASE("after a failed load without a copy the others get load_failed, which says for how long") {
  const redis_rig redis;
  const tn::cache_options options{.failure_throttle = 60s};
  site one{options};
  site two{options};
  failing loader;
  CHECK_THROWS_AS(one.cache.fetch(the_key(), std::ref(loader)), support::odd_fault);
  for (site* each : {&one, &two, &two}) {
    try {
      (void)each->cache.fetch(the_key(), std::ref(loader));
      FAIL("nothing was thrown");
    } catch (const tn::load_failed& fault) {
      CHECK(fault.code() == tn::errc::load_failed);
      CHECK(fault.retry_after() > 0ms);
      CHECK(fault.retry_after() <= 60s);
    }
  }
  CHECK(loader.calls == 1);
  CHECK(two.cache.stats().throttled == 2);
  CHECK_FALSE(two.cache.get(the_key()).has_value());
}

TEST_CASE("the loader is called again when failure_throttle is over, and at once where there is none") {
  const support::must_end ends;
  const redis_rig redis;
  failing loader;
  site slow{{.failure_throttle = 40ms}};
  CHECK_THROWS_AS(slow.cache.fetch(the_key(), std::ref(loader)), support::odd_fault);
  CHECK(eventually([&] {
    const auto fault = support::thrown_by([&] { return slow.cache.fetch(the_key(), std::ref(loader)); });
    return fault && loader.calls == 2;
  }));
  redis.client.execute("FLUSHALL");
  site eager{{.failure_throttle = 0ms}};
  for (int i = 0; i < 3; ++i) CHECK_THROWS_AS(eager.cache.fetch(the_key(), std::ref(loader)), support::odd_fault);
  CHECK(loader.calls == 5);
}

TEST_CASE("a put ends the throttle of a failed load: its value is served") {
  const redis_rig redis;
  site one{{.failure_throttle = 60s}};
  failing loader;
  CHECK_THROWS_AS(one.cache.fetch(the_key(), std::ref(loader)), support::odd_fault);
  one.cache.put(the_key(), {2, "put"});
  CHECK(one.cache.fetch(the_key(), std::ref(loader))->unit == "put");
  CHECK(loader.calls == 1);
}

TEST_CASE("a stale copy may be given after any expirations, and never after an invalidation, in any order") {
  const support::must_end ends;
  const redis_rig redis;
  site one{{.stale_for = 1h, .failure_throttle = 0ms}};
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  struct way {
    std::string name;
    bool soft;
    std::function<void()> run;
  };
  const std::vector<way> ways{
      {"expire key", true, [&] { one.cache.expire(the_key()); }},
      {"expire tenant", true, [&] { inv.expire(acme); }},
      {"expire tag", true,
       [&] {
         inv.expire(tn::tag{acme, "t"});
       }},
      {"expire another tag", true,
       [&] {
         inv.expire(tn::tag{acme, "other"});
       }},
      {"invalidate key", false, [&] { one.cache.invalidate(the_key()); }},
      {"invalidate tenant", false, [&] { inv.invalidate(acme); }},
      {"invalidate tag", false,
       [&] {
         inv.invalidate(tn::tag{acme, "t"});
       }},
  };
  for (const way& first : ways) {
    for (const way& second : ways) {
      CAPTURE(first.name, second.name);
      if (first.name == second.name && first.name == "expire another tag") continue;
      one.cache.invalidate(the_key());
      CHECK(fetch_tagged(one, {1, "old"}).stored());
      first.run();
      second.run();
      failing loader;
      std::optional<tn::cached<kpi>> copy;
      const auto fault = support::thrown_by([&] { copy = one.cache.fetch(the_key(), std::ref(loader)); });
      CHECK(loader.calls == 1);
      REQUIRE(copy.has_value() == (first.soft && second.soft));
      if (copy) {
        CHECK(copy->source() == tn::source::stale);
        CHECK((*copy)->unit == "old");
        CHECK_FALSE(one.cache.get(the_key()).has_value());  // being given makes it no fresher
      } else {
        CHECK_THROWS_AS(std::rethrow_exception(fault), support::odd_fault);
      }
    }
  }
}

TEST_CASE("a stale copy that was invalidated by another tag than its own is still given") {
  const redis_rig redis;
  site one{{.stale_for = 1h, .failure_throttle = 0ms}};
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  (void)fetch_tagged(one, {1, "old"});
  one.cache.expire(the_key());
  inv.invalidate(tn::tag{acme, "other"});
  failing loader;
  CHECK(one.cache.fetch(the_key(), std::ref(loader)).source() == tn::source::stale);
}

TEST_CASE("a stale copy ends with stale_for, and its memory is given back") {
  const redis_rig redis;
  site one{{.ttl = 40ms, .jitter = 0, .stale_for = 80ms, .failure_throttle = 0ms}};
  (void)one.cache.fetch(the_key(), [] { return kpi{1, "old"}; });
  CHECK(redis.pttl(the_key()) <= 120);
  CHECK(eventually([&] { return !redis.holds(the_key()); }));
  failing loader;
  CHECK_THROWS_AS(one.cache.fetch(the_key(), std::ref(loader)), support::odd_fault);
  site longer{{.ttl = 1h, .jitter = 0, .stale_for = 3h}};
  longer.cache.put(the_key(), {1, "kept"});
  const auto left = redis.pttl(the_key());
  CHECK(left > std::chrono::milliseconds{3h}.count());
  CHECK(left <= std::chrono::milliseconds{4h}.count());
  longer.cache.expire(the_key());
  CHECK(redis.pttl(the_key()) <= left);  // being expired is no longer life
}

TEST_CASE("a value is refreshed ahead by one reader of all processes, and the others go on with it") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::cache_options options{.ttl = 60s, .jitter = 0, .refresh_ahead = 0.001, .lease_wait = 20s};
  site one{options};
  site two{options};
  one.cache.put(the_key(), {1, "old"});
  gate inside;
  gate release;
  auto refreshing = on_thread([&] {
    std::optional<tn::cached<kpi>> found;
    (void)eventually([&] {
      found = one.cache.fetch(the_key(), [&] {
        inside.open();
        release.wait();
        return kpi{2, "new"};
      });
      return (*found)->unit == "new";
    });
    return *found;
  });
  const support::opens_at_end cleanup{release};
  REQUIRE(inside.wait());
  for (int i = 0; i < 10; ++i) {
    for (site* each : {&one, &two}) {
      const auto found = each->cache.fetch(the_key(), [] { return kpi{3, "not called"}; });
      CHECK(found->unit == "old");
      CHECK(found.source() == tn::source::redis);
    }
  }
  release.open();
  const auto refreshed = refreshing.get();
  CHECK(refreshed->unit == "new");
  CHECK(refreshed.source() == tn::source::computed);
  CHECK(refreshed.stored());
  CHECK(two.cache.get(the_key()).value()->unit == "new");
  CHECK(two.cache.stats().loads == 0);
}

TEST_CASE("a refresh that fails hides its exception, and is not tried again for failure_throttle") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::cache_options options{.ttl = 60s, .jitter = 0, .refresh_ahead = 0.001, .failure_throttle = 60s};
  site one{options};
  site two{options};
  one.cache.put(the_key(), {1, "old"});
  failing loader;
  CHECK(eventually([&] {
    CHECK(one.cache.fetch(the_key(), std::ref(loader))->unit == "old");
    return loader.calls == 1;
  }));
  for (int i = 0; i < 5; ++i) {
    CHECK(one.cache.fetch(the_key(), std::ref(loader))->unit == "old");
    CHECK(two.cache.fetch(the_key(), std::ref(loader))->unit == "old");
  }
  CHECK(loader.calls == 1);
}

TEST_CASE("a refresh that is overtaken by an invalidation stores nothing") {
  const support::must_end ends;
  const redis_rig redis;
  site one{{.ttl = 60s, .jitter = 0, .refresh_ahead = 0.001}};
  one.cache.put(the_key(), {1, "old"});
  bool refreshed = false;
  CHECK(eventually([&] {
    (void)one.cache.fetch(the_key(), [&] {
      one.cache.invalidate(the_key());
      refreshed = true;
      return kpi{2, "overtaken"};
    });
    return refreshed;
  }));
  CHECK_FALSE(one.cache.get(the_key()).has_value());
}

TEST_CASE("nobody refreshes a value that is not asked for, or only by get") {
  const redis_rig redis;
  std::atomic<int> loads{0};
  const tn::client own{support::patient_options()};
  tn::cache<kpi> cache{own, {.ttl = 60s, .jitter = 0, .refresh_ahead = 0.001}, [&] { return kpi{++loads}; }};
  (void)cache.fetch(the_key());
  std::this_thread::sleep_for(150ms);  // more than twice as long as the value is not refreshed
  CHECK(cache.get(the_key()).has_value());
  CHECK(loads == 1);
  CHECK(cache.fetch(the_key())->property_count == 2);
}
