// Callers that leave a load behind: soft_timeout, hard_timeout, and the load that goes on.

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
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::background_site;
using support::database;
using support::eventually;
using support::failing;
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

/// How a stale copy came to be there.
struct past {
  const char* name;
  std::function<void(background_site&, const redis_rig&)> make_stale;
};
const std::vector<past>& pasts() {
  static const std::vector<past> all{
      {"expired", [](background_site& at, const redis_rig&) { at.cache().expire(the_key()); }},
      {"tenant expired",
       [](background_site&, const redis_rig& redis) {
         tn::invalidator{redis.client, tn::catalog{portfolio_kpi}}.expire(acme);
       }},
      {"beyond its ttl",
       [](background_site& at, const redis_rig&) {
         CHECK(eventually([&] { return !at.cache().get(the_key()).has_value(); }));
       }},
  };
  return all;
}

void check_copy(const tn::cached<kpi>& found) {
  CHECK(found->unit == "old");
  CHECK(found.source() == tn::source::stale);
  CHECK(found.failure() == nullptr);
}

/// The load that was left behind has stored its value.
void check_stored(background_site& at, const way& how, const char* unit) {
  CHECK(eventually([&] { return at.cache().get(the_key()).has_value(); }));
  const auto found = fetch(at, the_key(), how);
  CHECK(found->unit == unit);
  CHECK(found.source() == tn::source::redis);
}

}  // namespace

TEST_CASE("after soft_timeout a caller goes on with the stale copy, and the load that it leaves stores its value") {
  for (const way& how : ways) {
    for (const past& each : pasts()) {
      CAPTURE(how.name, each.name);
      const support::must_end ends;
      const redis_rig redis;
      database from;
      background_site one{from, {.ttl = 100ms, .jitter = 0, .stale_for = 1h, .soft_timeout = 20ms}, how};
      one.cache().put(the_key(), {1, "old"});
      each.make_stale(one, redis);
      check_copy(fetch(one, the_key(), how));
      CHECK(from.asked() == 1);
      CHECK(one.stats().stale == 1);
      CHECK(one.stats().timeouts == 0);
      const auto told = one.heard.all(tn::events::stale_served);
      REQUIRE(told.size() == 1);
      CHECK(told[0].text.at("tenant") == "acme");
      from.answer({2, "new"});
      CHECK(eventually([&] { return one.stats().stores == 2; }));  // and the put
      CHECK(redis.payload(the_key()).value().find("new") != std::string::npos);
      CHECK(from.asked() == 1);
    }
  }
}

TEST_CASE(
    "while a load that was left behind runs, callers of all processes get the stale copy, and no loader is called") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    const tn::cache_options options{.stale_for = 1h, .soft_timeout = 20ms};
    database from;
    background_site one{from, options, how};
    background_site two{from, options, how};
    one.cache().put(the_key(), {1, "old"});
    one.cache().expire(the_key());
    check_copy(fetch(one, the_key(), how));
    for (int i = 0; i < 3; ++i) {
      check_copy(fetch(one, the_key(), how));
      check_copy(fetch(two, the_key(), how));
    }
    CHECK(one.stats().waits == 3);
    CHECK(two.stats().waits == 3);
    CHECK(from.asked() == 1);
    from.answer({2, "new"});
    check_stored(two, how, "new");
    check_stored(one, how, "new");
    CHECK(from.asked() == 1);
    CHECK(one.stats().loads + two.stats().loads == 1);
  }
}

TEST_CASE("a caller that is patient waits for the load that another left behind, in its own process and in another") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site hasty{from, {.stale_for = 1h, .soft_timeout = 20ms}, how};
    background_site patient{from, {.stale_for = 1h}, how};
    hasty.cache().put(the_key(), {1, "old"});
    hasty.cache().expire(the_key());
    check_copy(fetch(hasty, the_key(), how));
    auto waiting = fetching(patient, the_key(), how);
    REQUIRE(eventually([&] { return patient.stats().waits == 1; }));
    from.answer({2, "new"});
    CHECK(waiting.get()->unit == "new");
    CHECK(from.asked() == 1);
  }
}

TEST_CASE("soft_timeout hurries nobody where there is no copy, or none that may be served any more") {
  struct past {
    const char* name;
    std::function<void(background_site&, const redis_rig&)> end_copy;
  };
  const std::vector<past> pasts{
      {"never there", [](background_site&, const redis_rig&) {}},
      {"invalidated",
       [](background_site& at, const redis_rig&) {
         at.cache().put(the_key(), {1, "old"});
         at.cache().invalidate(the_key());
       }},
      {"tenant invalidated",
       [](background_site& at, const redis_rig& redis) {
         at.cache().put(the_key(), {1, "old"});
         tn::invalidator{redis.client, tn::catalog{portfolio_kpi}}.invalidate(acme);
       }},
      {"expired and invalidated",
       [](background_site& at, const redis_rig& redis) {
         at.cache().put(the_key(), {1, "old"});
         at.cache().expire(the_key());
         tn::invalidator{redis.client, tn::catalog{portfolio_kpi}}.invalidate(acme);
       }},
  };
  for (const way& how : ways) {
    for (const past& each : pasts) {
      CAPTURE(how.name, each.name);
      const support::must_end ends;
      const redis_rig redis;
      database from;
      background_site one{from, {.stale_for = 1h, .soft_timeout = 1ms}, how};
      each.end_copy(one, redis);
      auto leading = fetching(one, the_key(), how);
      REQUIRE(eventually([&] { return from.asked() == 1; }));
      auto following = fetching(one, the_key(), how);
      REQUIRE(eventually([&] { return one.stats().waits == 1; }));
      from.answer({2, "new"});
      CHECK(leading.get()->unit == "new");
      CHECK(following.get()->unit == "new");
      CHECK(one.stats().stale == 0);
      CHECK(from.asked() == 1);
    }
  }
}

TEST_CASE("a copy that is invalidated before soft_timeout is over is not given: its caller waits for the load") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.stale_for = 1h, .soft_timeout = 500ms}, how};
    one.cache().put(the_key(), {1, "old"});
    one.cache().expire(the_key());
    auto waiting = fetching(one, the_key(), how);
    REQUIRE(eventually([&] { return from.asked() == 1; }));
    one.cache().invalidate(the_key());
    auto after = fetching(one, the_key(), how);  // begins a load of its own
    REQUIRE(eventually([&] { return from.asked() == 2; }));
    std::this_thread::sleep_for(600ms);  // for soft_timeout to be over
    CHECK_FALSE(waiting.has_ended());
    CHECK_FALSE(after.has_ended());
    from.answer({2, "fenced"});
    from.answer({3, "new"});
    CHECK(waiting.get()->unit == "fenced");
    CHECK(after.get()->unit == "new");
    CHECK(one.stats().stale == 0);
    CHECK(one.stats().fenced == 1);
  }
}

TEST_CASE(
    "after hard_timeout without a copy a caller gets load_timeout, and the load that it leaves stores its value") {
  for (const way& how : ways) {
    for (const auto stale_for : {0ms, 60000ms}) {
      CAPTURE(how.name, stale_for.count());
      const support::must_end ends;
      const redis_rig redis;
      database from;
      background_site one{from, {.stale_for = stale_for, .hard_timeout = 20ms}, how};
      try {
        (void)fetch(one, the_key(), how);
        FAIL("nothing was thrown");
      } catch (const tn::timeout_error& fault) {
        CHECK(fault.code() == tn::errc::load_timeout);
        CHECK(fault.execution() == tn::execution::not_sent);
        CHECK(std::string{fault.what()}.find(the_key().str()) != std::string::npos);
      }
      CHECK(one.stats().timeouts == 1);
      const auto told = one.heard.all(tn::events::load_timeout);
      REQUIRE(told.size() == 1);
      CHECK(told[0].text.at("tenant") == "acme");
      from.answer({2, "new"});
      check_stored(one, how, "new");
      CHECK(from.asked() == 1);
      CHECK(one.stats().load_failures == 0);
    }
  }
}

TEST_CASE("after hard_timeout others, also of another process, get load_timeout too, and call no loader") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    const tn::cache_options options{.hard_timeout = 20ms};
    database from;
    background_site one{from, options, how};
    background_site two{from, options, how};
    for (background_site* each : {&one, &one, &two, &two}) {
      CHECK(support::failure_of([&] { (void)fetch(*each, the_key(), how); }).code == tn::errc::load_timeout);
    }
    CHECK(one.stats().timeouts == 2);
    CHECK(two.stats().timeouts == 2);
    CHECK(from.asked() == 1);
    from.answer({2, "new"});
    check_stored(two, how, "new");
    CHECK(from.asked() == 1);
  }
}

TEST_CASE("after hard_timeout a stale copy is given where there is one, unless it was invalidated") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.stale_for = 1h, .hard_timeout = 20ms}, how};
    background_site two{from, {.stale_for = 1h, .hard_timeout = 20ms}, how};
    one.cache().put(the_key(), {1, "old"});
    one.cache().expire(the_key());
    for (background_site* each : {&one, &one, &two}) check_copy(fetch(*each, the_key(), how));
    CHECK(one.stats().timeouts == 0);
    CHECK(from.asked() == 1);
    two.cache().invalidate(the_key());
    CHECK(support::failure_of([&] { (void)fetch(two, the_key(), how); }).code == tn::errc::load_timeout);
    CHECK(from.asked() == 2);
    from.answer({2, "fenced"});
    from.answer({3, "new"});
    check_stored(one, how, "new");
  }
}

TEST_CASE("a caller that waits for another's load, and then for its own, waits for hard_timeout in all") {
  const support::must_end ends;
  for (const way& how : {ways[0], ways[3]}) {
    CAPTURE(how.name);
    const redis_rig redis;
    database from;
    support::site other;
    background_site one{from, {.hard_timeout = 3s}, how};
    support::load_held load{other, the_key(), {1, "other"}};
    const auto begin = std::chrono::steady_clock::now();
    auto waiting = failing(one, the_key(), how);
    REQUIRE(eventually([&] { return one.stats().waits == 1; }));
    std::this_thread::sleep_until(begin + 2500ms);
    other.cache.invalidate(the_key());  // now it loads for itself
    REQUIRE(eventually([&] { return from.asked() == 1; }));
    CHECK(waiting.get().find("hard_timeout") != std::string::npos);
    CHECK(std::chrono::steady_clock::now() - begin < 5200ms);  // 3 s, and not 5.5
  }
}

TEST_CASE("a load that was left behind and throws is reported, throttles, and leaves the stale copy") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    database from;
    background_site one{from, {.stale_for = 1h, .soft_timeout = 20ms, .failure_throttle = 60s}, how};
    one.cache().put(the_key(), {1, "old"});
    one.cache().expire(the_key());
    check_copy(fetch(one, the_key(), how));
    from.refuse("no such table");
    REQUIRE(eventually([&] { return one.heard.all(tn::events::load_failed).size() == 1; }));
    const auto told = one.heard.all(tn::events::load_failed)[0];
    CHECK(told.number.at("background") == 1);
    CHECK(told.text.at("detail") == "no such table");
    for (int i = 0; i < 3; ++i) check_copy(fetch(one, the_key(), how));
    CHECK(from.asked() == 1);
    CHECK(one.stats().load_failures == 1);
  }
}

TEST_CASE("a load that was left behind and is invalidated stores nothing that is served") {
  for (const way& how : ways) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
    const std::vector<std::function<void(background_site&)>> invalidations{
        [](background_site& at) { at.cache().invalidate(the_key()); }, [&](background_site&) { inv.invalidate(acme); },
        [&](background_site&) {
          inv.invalidate(tn::tag{acme, "t"});
        }};
    for (const auto& invalidate : invalidations) {
      redis.client.execute("FLUSHALL");
      database from;
      background_site one{from, {.hard_timeout = 20ms}, how};
      CHECK(support::failure_of([&] { (void)fetch(one, the_key(), how); }).code == tn::errc::load_timeout);
      invalidate(one);
      from.answer({1, "old"});
      CHECK(eventually([&] { return one.heard.all(tn::events::load_fenced).size() == 1; }));
      CHECK(one.stats().fenced == 1);
      CHECK(one.stats().stores == 0);
      CHECK_FALSE(one.cache().get(the_key()).has_value());
    }
  }
}

TEST_CASE(
    "the load of a loader given to fetch has no timeout, and its caller waits for others no longer than it says") {
  const support::must_end ends;
  const redis_rig redis;
  database from;
  background_site one{from, {.hard_timeout = 20ms}, ways[0]};
  const auto slow = one.cache().fetch(the_key(), [&] {
    std::this_thread::sleep_for(60ms);
    return kpi{1, "slow"};
  });
  CHECK(slow->unit == "slow");
  CHECK(one.stats().timeouts == 0);
  one.cache().invalidate(the_key());
  support::site other;
  support::load_held load{other, the_key(), {2, "other"}};
  const auto late = support::failure_of([&] {
    (void)one.cache().fetch(the_key(), [] { return kpi{3, "not called"}; });
  });
  CHECK(late.code == tn::errc::load_timeout);
}
