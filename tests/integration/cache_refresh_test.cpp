// Values that are loaded anew before they end, in the background.

#include "support/background.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/tag.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::background_site;
using support::database;
using support::eventually;
using support::fetch;
using support::fetching;
using support::kpi;
using support::portfolio_kpi;
using support::redis_rig;
using support::way;
using support::ways;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}

/// Values are due 60 ms after they were stored, and live for a minute.
tn::cache_options early() { return {.ttl = 60s, .jitter = 0, .refresh_ahead = 0.001}; }

void check_old(const tn::cached<kpi>& found) {
  CHECK(found->unit == "old");
  CHECK(found.source() == tn::source::redis);
  CHECK(found.stored());
}

/// Puts a value, and fetches it until it is being loaded anew. What is fetched meanwhile is that value.
void begin_refresh(background_site& at, const way& how) {
  const int before = at.from().asked();
  at.cache().put(the_key(), {1, "old"});
  REQUIRE(eventually([&] {
    check_old(fetch(at, the_key(), how));
    return at.from().asked() > before;
  }));
}

}  // namespace

TEST_CASE(
    "who notices that a value is due gets it at once, and one load in the background replaces it for all processes") {
  for (const way& how : ways) {
    for (const bool randomly : {false, true}) {
      CAPTURE(how.name, randomly);
      const support::must_end ends;
      const redis_rig redis;
      tn::cache_options options = early();
      if (randomly) options.refresh_beta = 1;
      database from;
      background_site one{from, options, how};
      background_site two{from, options, how};
      begin_refresh(one, how);
      for (int i = 0; i < 10; ++i) {
        check_old(fetch(one, the_key(), how));
        check_old(fetch(two, the_key(), how));
      }
      CHECK(one.stats().waits + two.stats().waits == 0);
      CHECK(from.asked() == 1);
      from.answer({2, "new"});
      CHECK(eventually([&] { return two.cache().get(the_key()).value()->unit == "new"; }));
      CHECK(fetch(one, the_key(), how).source() == tn::source::redis);
      CHECK(eventually([&] { return one.stats().stores == 2; }));  // and the put
      CHECK(one.stats().refreshes == 1);
      CHECK(one.stats().loads == 1);
      CHECK(two.stats().loads == 0);
      CHECK(one.stats().misses + two.stats().misses == 0);
      CHECK(one.cache().close(20s));
    }
  }
}

TEST_CASE("with refresh_beta alone a value whose load takes long is due early, and loaded in the background") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.ttl = 60s, .jitter = 0, .refresh_beta = 1000}, how};
    auto loading = fetching(one, the_key(), how);
    REQUIRE(eventually([&] { return from.asked() == 1; }));
    std::this_thread::sleep_for(100ms);  // so long a load took that 1000 times of it are more than the ttl
    from.answer({1, "old"});
    CHECK(loading.get()->unit == "old");
    REQUIRE(eventually([&] {
      check_old(fetch(one, the_key(), how));
      return from.asked() == 2;
    }));
    from.answer({2, "new"});
    CHECK(eventually([&] { return one.cache().get(the_key()).value()->unit == "new"; }));
    CHECK(one.stats().refreshes == 1);
  }
}

TEST_CASE("nobody loads a value in the background that nobody fetches, or that is not due") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, early(), how};
    one.cache().put(the_key(), {1, "old"});
    std::this_thread::sleep_for(150ms);  // more than twice as long as the value is not due
    CHECK(one.cache().get(the_key()).has_value());
    CHECK(from.asked() == 0);
    tn::cache_options late = early();
    late.refresh_ahead = 0.99;
    background_site two{from, late, how};
    two.cache().put(the_key(), {1, "old"});
    for (int i = 0; i < 10; ++i) check_old(fetch(two, the_key(), how));
    CHECK(two.cache().close(20s));
    CHECK(from.asked() == 0);
  }
}

TEST_CASE("a fetch after the end of a value joins the load that is to replace it, in all processes") {
  for (const way& how : ways) {
    for (const bool expired : {false, true}) {
      CAPTURE(how.name, expired);
      const support::must_end ends;
      const redis_rig redis;
      database from;
      tn::cache_options options = early();
      if (expired) options.ttl = 1s, options.refresh_ahead = 0.05;
      background_site one{from, options, how};
      background_site two{from, options, how};
      begin_refresh(one, how);
      if (!expired) redis.client.execute("DEL", the_key());  // it was evicted
      CHECK(eventually([&] { return !one.cache().get(the_key()).has_value(); }));
      auto here = fetching(one, the_key(), how);
      auto there = fetching(two, the_key(), how);
      REQUIRE(eventually([&] { return one.stats().waits == 1 && two.stats().waits == 1; }));
      from.answer({2, "new"});
      CHECK(here.get()->unit == "new");
      CHECK(there.get()->unit == "new");
      CHECK(from.asked() == 1);
    }
  }
}

TEST_CASE(
    "a load in the background that throws leaves the fresh value in place, is reported, and not tried again at once") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    tn::cache_options options = early();
    options.failure_throttle = 60s;
    database from;
    background_site one{from, options, how};
    background_site two{from, options, how};
    begin_refresh(one, how);
    from.refuse("no such table");
    REQUIRE(eventually([&] { return one.heard.all(tn::events::load_failed).size() == 1; }));
    const auto told = one.heard.all(tn::events::load_failed)[0];
    CHECK(told.text.at("tenant") == "acme");
    CHECK(told.text.at("detail") == "no such table");
    CHECK(told.number.at("background") == 1);
    for (int i = 0; i < 5; ++i) {
      check_old(fetch(one, the_key(), how));
      check_old(fetch(two, the_key(), how));
    }
    CHECK(one.cache().close(20s));
    CHECK(two.cache().close(20s));
    CHECK(from.asked() == 1);
    CHECK(one.stats().load_failures == 1);
    CHECK(one.stats().misses + two.stats().misses == 0);
  }
}

TEST_CASE(
    "a load in the background that an invalidation overtakes stores nothing, and a fetch after it begins a new one") {
  for (const way& how : ways) {
    const std::vector<std::function<void(background_site&, const tn::invalidator&)>> invalidations{
        [](background_site& at, const tn::invalidator&) { at.cache().invalidate(the_key()); },
        [](background_site& at, const tn::invalidator&) { at.cache().expire(the_key()); },
        [](background_site&, const tn::invalidator& inv) { inv.invalidate(acme); },
        [](background_site&, const tn::invalidator& inv) {
          inv.invalidate(tn::tag{acme, "t"});
          inv.expire(acme);
        }};
    for (std::size_t i = 0; i < invalidations.size(); ++i) {
      CAPTURE(how.name, i);
      const support::must_end ends;
      const redis_rig redis;
      const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
      database from;
      background_site one{from, early(), how};
      begin_refresh(one, how);
      invalidations[i](one, inv);
      auto after = fetching(one, the_key(), how);
      REQUIRE(eventually([&] { return from.asked() == 2; }));
      from.answer({2, "overtaken"});
      REQUIRE(eventually([&] { return one.heard.all(tn::events::load_fenced).size() == 1; }));
      CHECK_FALSE(one.cache().get(the_key()).has_value());
      from.answer({3, "new"});
      CHECK(after.get()->unit == "new");
      CHECK(one.cache().get(the_key()).value()->unit == "new");
      CHECK(one.stats().refreshes == 1);
      CHECK(one.stats().fenced == 1);
    }
  }
}

TEST_CASE("close tells the load of a fresh value to stop, and waits for its end") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, early(), how};
    begin_refresh(one, how);
    REQUIRE(eventually([&] { return one.stops().size() == 1; }));
    CHECK_FALSE(one.stops()[0].stop_requested());
    CHECK_FALSE(one.cache().close(10ms));
    CHECK(one.stops()[0].stop_requested());
    check_old(fetch(one, the_key(), how));
    from.answer({2, "new"});
    CHECK(one.cache().close(20s));
    CHECK(one.cache().get(the_key()).value()->unit == "new");
  }
}

TEST_CASE("a value is loaded anew as often as it is due, one load after another") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, early(), how};
    for (int i = 1; i <= 3; ++i) {
      begin_refresh(one, how);
      from.answer({i, "new"});
      CHECK(eventually([&] { return one.stats().stores == static_cast<std::uint64_t>(2 * i); }));
    }
    CHECK(one.stats().refreshes == 3);
  }
}

TEST_CASE("after close a value that is due is given, and not loaded anew") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, early(), how};
    one.cache().put(the_key(), {1, "old"});
    CHECK(one.cache().close(20s));
    std::this_thread::sleep_for(100ms);  // it is due
    for (int i = 0; i < 3; ++i) check_old(fetch(one, the_key(), how));
    CHECK(from.asked() == 0);
    CHECK(one.stats().loads == 0);
  }
}
