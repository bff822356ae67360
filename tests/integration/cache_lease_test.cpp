// One load for all processes: who may load, who waits, and how the waiting ends.

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

#include <chrono>
#include <exception>
#include <functional>
#include <future>
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
using support::load_held;
using support::on_thread;
using support::portfolio_kpi;
using support::redis_rig;
using support::site;
using support::waiting_fetch;

const tn::key& the_key() {
  static const tn::key k = portfolio_kpi(acme);
  return k;
}

}  // namespace

TEST_CASE("of two processes one loads, and the other is woken with the value, without asking again and again") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two;
  load_held load{one, the_key(), {1, "one"}};
  waiting_fetch waiting{two, the_key(), {2, "two"}};
  const auto commands = two.commands();
  std::this_thread::sleep_for(500ms);  // for a waiter that polls to show
  const auto loaded = load.finish();
  CHECK(loaded.stored());
  CHECK(loaded.source() == tn::source::computed);
  const auto found = waiting.result();
  CHECK(found->unit == "one");
  CHECK(found.stored());
  CHECK(found.failure() == nullptr);
  CHECK(waiting.loads() == 0);
  // The subscription and the message wake it, once each: a look of two commands, and one for the lease.
  CHECK(two.commands() <= commands + 6);
  CHECK(two.cache.stats().loads == 0);
}

TEST_CASE("those who wait in two other processes get the one value, many in each") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two;
  site three;
  load_held load{one, the_key(), {1, "one"}};
  std::vector<std::future<tn::cached<kpi>>> waiting;
  for (site* each : {&one, &two, &three}) {
    for (int i = 0; i < 10; ++i) {
      waiting.push_back(on_thread([each] {
        return each->cache.fetch(the_key(), [] { return kpi{2, "not called"}; });
      }));
    }
    CHECK(eventually([&] { return each->cache.stats().waits == 10; }));
  }
  (void)load.finish();
  for (auto& each : waiting) CHECK(each.get()->unit == "one");
}

TEST_CASE("those who wait for a load that throws in another process get load_failed, and call no loader") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.failure_throttle = 60s})};
  site two{site::waiting({.failure_throttle = 60s})};
  gate inside;
  gate release;
  auto failing = on_thread([&] {
    return support::thrown_by([&] {
      return one.cache.fetch(the_key(), [&]() -> kpi {
        inside.open();
        release.wait();
        throw support::odd_fault{7};
      });
    });
  });
  const support::opens_at_end cleanup{release};
  REQUIRE(inside.wait());
  waiting_fetch waiting{two, the_key(), {2, "two"}};
  release.open();
  CHECK_THROWS_AS(std::rethrow_exception(failing.get()), support::odd_fault);
  CHECK(support::failure_of([&] { (void)waiting.result(); }).code == tn::errc::load_failed);
  CHECK(waiting.loads() == 0);
  CHECK(two.cache.stats().throttled == 1);
}

TEST_CASE("a load that takes three times the lease keeps it, and no other process loads meanwhile") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.lease_ttl = support::brief_lease})};
  site two{site::waiting({.lease_ttl = support::brief_lease})};
  load_held load{one, the_key(), {1, "one"}};
  waiting_fetch waiting{two, the_key(), {2, "two"}};
  std::this_thread::sleep_for(3 * support::brief_lease);
  CHECK(waiting.loads() == 0);
  CHECK(load.finish().stored());
  CHECK(waiting.result()->unit == "one");
  CHECK(waiting.loads() == 0);
}

TEST_CASE("a lease is not renewed beyond load_timeout: another process loads, and the first stores nothing") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.lease_ttl = 200ms, .load_timeout = 400ms})};
  site two{site::waiting({.lease_ttl = 200ms})};
  load_held load{one, the_key(), {1, "one"}};
  const auto second = two.cache.fetch(the_key(), [] { return kpi{2, "two"}; });
  CHECK(second->unit == "two");
  CHECK(second.stored());  // it had the lease; an own load after lease_wait is not stored
  const auto first = load.finish();
  CHECK(first->unit == "one");
  CHECK_FALSE(first.stored());
  CHECK(two.cache.get(the_key()).value()->unit == "two");
}

TEST_CASE("a loader is told by its stop token that load_timeout has passed") {
  const support::must_end ends;
  const redis_rig redis;
  site one{{.load_timeout = 100ms}};
  bool at_first = true;
  bool in_the_end = false;
  (void)one.cache.fetch(the_key(), [&](const tn::key&, tn::load_context& load) {
    at_first = load.stop().stop_requested();
    in_the_end = eventually([&] { return load.stop().stop_requested(); });
    return kpi{1, "one"};
  });
  CHECK_FALSE(at_first);
  CHECK(in_the_end);
}

TEST_CASE("when lease_wait ends and there is no stale copy, one loads for oneself and stores nothing") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two{{.lease_wait = 50ms}};
  load_held load{one, the_key(), {1, "one"}};
  const auto own = two.cache.fetch(the_key(), [] { return kpi{2, "two"}; });
  CHECK(own->unit == "two");
  CHECK(own.source() == tn::source::computed);
  CHECK_FALSE(own.stored());
  CHECK(own.failure() == nullptr);
  CHECK_FALSE(redis.holds(the_key()));
  CHECK(load.finish().stored());
  CHECK(two.cache.get(the_key()).value()->unit == "one");
}

TEST_CASE("when lease_wait ends and there is a stale copy, that is given, and no loader called") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.stale_for = 1h})};
  site two{{.stale_for = 1h, .lease_wait = 50ms}};
  one.cache.put(the_key(), {0, "old"});
  one.cache.expire(the_key());
  load_held load{one, the_key(), {1, "one"}};
  const auto copy = two.cache.fetch(the_key(), [] { return kpi{2, "two"}; });
  CHECK(copy->unit == "old");
  CHECK(copy.source() == tn::source::stale);
  CHECK(two.cache.stats().loads == 0);
  CHECK(two.cache.stats().stale == 1);
  CHECK(load.finish().stored());
  CHECK(two.cache.get(the_key()).value()->unit == "one");
}

TEST_CASE("a fetch after an invalidation waits for no load that began before, in no process, whoever invalidated") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  tn::cache<kpi> third{redis.client};
  const std::vector<std::pair<std::string, std::function<void()>>> ways{
      {"key", [&] { third.invalidate(the_key()); }},
      {"expire key", [&] { third.expire(the_key()); }},
      {"tenant", [&] { inv.invalidate(acme); }},
      {"expire tenant", [&] { inv.expire(acme); }},
      {"tag",
       [&] {
         inv.invalidate(tn::tag{acme, "t"});
       }},
      {"expire tag",
       [&] {
         inv.expire(tn::tag{acme, "t"});
       }},
  };
  for (const auto& [name, invalidate] : ways) {
    for (const bool same_process : {true, false}) {
      CAPTURE(name, same_process);
      redis.client.execute("FLUSHALL");
      site one;
      site two;
      load_held load{one, the_key(), {1, "old"}, {"t"}};
      invalidate();
      const auto fresh = (same_process ? one : two).cache.fetch(the_key(), [] { return kpi{2, "new"}; });
      CHECK(fresh->unit == "new");
      CHECK(fresh.stored());  // not so for an own load after lease_wait
      const auto old = load.finish();
      CHECK(old->unit == "old");
      CHECK_FALSE(old.stored());
      CHECK(two.cache.fetch(the_key(), [] { return kpi{3, "newer"}; })->unit == "new");
    }
  }
}

TEST_CASE("a fetch after an invalidation waits for the new load of another process, not for an old one of its own") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two;
  load_held old{one, the_key(), {1, "old"}};
  two.cache.invalidate(the_key());
  load_held fresh{two, the_key(), {2, "new"}};
  waiting_fetch waiting{one, the_key(), {3, "not called"}};
  CHECK_FALSE(old.finish().stored());
  CHECK(fresh.finish().stored());
  CHECK(waiting.result()->unit == "new");
  CHECK(waiting.loads() == 0);
}

TEST_CASE("one who waits for a load that another process invalidates is not left waiting, and gets a value") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  site two;
  load_held load{one, the_key(), {1, "old"}};
  waiting_fetch waiting{two, the_key(), {2, "new"}};
  tn::cache<kpi>{redis.client}.invalidate(the_key());
  const auto found = waiting.result();  // while the first load is held
  CHECK(found->unit == "new");
  CHECK(found.stored());
  CHECK_FALSE(load.finish().stored());
}

TEST_CASE("a load that FLUSHALL overtakes brings back nothing that was invalidated before it") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  for (const int way : {0, 1, 2}) {
    CAPTURE(way);
    site one;
    load_held load{one, the_key(), {1, "old"}, {"t"}};
    if (way == 0) inv.invalidate(acme);
    if (way == 1) inv.invalidate(tn::tag{acme, "t"});
    if (way == 2) one.cache.invalidate(the_key());
    redis.client.execute("FLUSHALL");
    const auto old = load.finish();
    CHECK(old->unit == "old");
    site two;
    CHECK(two.cache.fetch(the_key(), [] { return kpi{2, "new"}; })->unit == "new");
    redis.client.execute("FLUSHALL");
  }
}

TEST_CASE("a value written before FLUSHALL is not valid again when something brings its bytes back") {
  const support::must_end ends;
  const redis_rig redis;
  site one;
  CHECK(one.cache.fetch(the_key(), [] { return kpi{1, "old"}; }).stored());
  const std::string bytes = redis.raw(the_key()).value();
  redis.client.execute("FLUSHALL");
  redis.set(the_key(), bytes);
  CHECK(one.cache.fetch(the_key(), [] { return kpi{2, "new"}; })->unit == "new");
}

TEST_CASE("SCRIPT FLUSH at any moment changes nothing") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::invalidator inv{redis.client, tn::catalog{portfolio_kpi}};
  site one{site::waiting({.stale_for = 1h})};
  site two{site::waiting({.stale_for = 1h})};
  const auto forget = [&] { redis.client.execute("SCRIPT", "FLUSH"); };
  load_held load{one, the_key(), {1, "one"}, {"t"}};
  forget();
  waiting_fetch waiting{two, the_key(), {2, "two"}};
  forget();
  CHECK(load.finish().stored());
  CHECK(waiting.result()->unit == "one");
  forget();
  CHECK(two.cache.get(the_key()).has_value());
  forget();
  inv.expire(tn::tag{acme, "t"});
  forget();
  CHECK(two.cache.fetch(the_key(), [] { return kpi{3, "three"}; })->unit == "three");
  forget();
  two.cache.put(the_key(), {4, "four"});
  forget();
  CHECK(one.cache.get(the_key()).value()->unit == "four");
  forget();
  one.cache.invalidate(the_key());
  forget();
  CHECK_FALSE(two.cache.get(the_key()).has_value());
}
