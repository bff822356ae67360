// Traps of near caches (the table is in integration/near_traps_test.cpp): replies and messages that come in any order,
// because each connection is as slow as it likes.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/near_proxied.hpp"
#include "support/near_rig.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/tag.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::bare_near_by;
using support::comes_near;
using support::eventually;
using support::gateway_health;
using support::is_near;
using support::kpi;
using support::near_by;
using support::portfolio_kpi;
using support::reads;
using support::text_at;
using support::tracks;
using rig = support::near_proxied;

/// What a read gives whose reply is held back while something else happens.
std::string read_around(rig& with, const tn::key& k, const std::function<void()>& meanwhile) {
  with.hold(with.blocking);
  const auto before = reads(with.direct);
  auto reading = support::on_thread([&] { return text_at(with.cache, k); });
  const bool read = eventually([&] { return reads(with.direct) > before; });
  if (read) meanwhile();
  with.release(with.blocking);
  REQUIRE(read);
  return reading.get();
}
/// The next read asks Redis, and gives what is there.
void check_not_kept(rig& with, const tn::key& k, std::string_view there) {
  const auto found = with.cache.get(k);
  REQUIRE(found.has_value());
  CHECK(found->source() == tn::source::redis);
  CHECK(**found == there);
  CHECK(with.cache.near_stats().refused > 0);
}

}  // namespace

TEST_CASE("T1, T3: an invalidation that overtakes the reply: what was read is given, and not kept") {
  const support::must_end ends;
  rig with;
  const tn::key k = portfolio_kpi(acme);
  with.set(k, "old");
  const auto given = read_around(with, k, [&] {
    const auto before = with.cache.near_stats().invalidations;
    with.set(k, "new");
    REQUIRE(eventually([&] { return with.cache.near_stats().invalidations > before; }));
  });
  CHECK(given == "old");
  check_not_kept(with, k, "new");
  CHECK(comes_near(with.cache, k));
  CHECK(text_at(with.cache, k) == "new");
}

TEST_CASE("T1: the same for a coroutine, whose connection is another one") {
  const support::must_end ends;
  rig with;
  const tn::key k = portfolio_kpi(acme);
  with.set(k, "old");
  (void)tn::sync_wait(with.cache.async_get(gateway_health(acme, "first")));
  const auto before = reads(with.direct);
  for (const auto& each : support::connections(with.direct)) {
    if (each.tracks && each.id != with.blocking.id) with.hold(each);
  }
  auto reading = support::started(with.cache.async_get(k));
  REQUIRE(eventually([&] { return reads(with.direct) > before; }));
  const auto told = with.cache.near_stats().invalidations;
  with.set(k, "new");
  REQUIRE(eventually([&] { return with.cache.near_stats().invalidations > told; }));
  CHECK_FALSE(has_ended(reading));
  with.proxy.heal();
  CHECK(**result_of(reading) == "old");
  check_not_kept(with, k, "new");
}

TEST_CASE("T1: a key that is invalidated during a read of many is not kept, the others are") {
  const support::must_end ends;
  rig with;
  tn::cache<std::string> many{with.redis, bare_near_by(), [] { return std::string{"loaded"}; }};
  std::vector<tn::key> keys;
  keys.reserve(5);
  for (int i = 0; i < 5; ++i) keys.push_back(gateway_health(acme, i));
  for (const tn::key& k : keys) with.set(k, "old");
  REQUIRE(tracks(many));
  with.hold(with.blocking);
  const auto before = reads(with.direct);
  auto reading = support::on_thread([&] { return many.fetch_many(keys); });
  REQUIRE(eventually([&] { return reads(with.direct) > before; }));
  const auto told = many.near_stats().invalidations;
  with.set(keys[2], "new");
  REQUIRE(eventually([&] { return many.near_stats().invalidations > told; }));
  with.release(with.blocking);
  for (const auto& each : reading.get()) CHECK((*each == "old" || *each == "new"));
  const auto found = many.fetch_many(keys);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i].source() == (i == 2 ? tn::source::redis : tn::source::near));
    CHECK(*found[i] == (i == 2 ? "new" : "old"));
  }
}

TEST_CASE("T1: two reads under way: the older reply does not take the place that the younger one waits for") {
  const support::must_end ends;
  rig with;
  const tn::key k = portfolio_kpi(acme);
  with.set(k, "old");
  (void)tn::sync_wait(with.cache.async_get(gateway_health(acme, "first")));  // the other connection
  const auto given = read_around(with, k, [&] {
    const auto before = with.cache.near_stats().invalidations;
    with.set(k, "new");
    REQUIRE(eventually([&] { return with.cache.near_stats().invalidations > before; }));
    const auto younger = tn::sync_wait(with.cache.async_get(k));  // on that
    CHECK(**younger == "new");
  });
  CHECK(given == "old");
  CHECK(text_at(with.cache, k) == "new");
  CHECK(text_at(with.cache, k) == "new");
}

TEST_CASE("T6: who changed a value reads it at once, though the message about it is still under way") {
  const support::must_end ends;
  rig with;
  const tn::key k = gateway_health(acme, 1);
  tn::cache<kpi> one{with.redis, near_by()};
  const tn::invalidator inv{with.redis, tn::catalog{gateway_health, portfolio_kpi}};
  REQUIRE(tracks(one));
  const std::vector<std::pair<const char*, std::function<void()>>> changes{
      {"put",
       [&] {
         one.put(k, {2, "new"});
       }},
      {"invalidate", [&] { one.invalidate(k); }},
      {"expire", [&] { one.expire(k); }},
      {"invalidate tag",
       [&] {
         inv.invalidate(tn::tag{acme, "a"});
       }},
      {"expire tag",
       [&] {
         inv.expire(tn::tag{acme, "a"});
       }},
      {"invalidate tenant", [&] { inv.invalidate(acme); }},
      {"expire tenant", [&] { inv.expire(acme); }},
      {"sweep", [&] { (void)inv.sweep(acme); }},
  };
  for (const auto& [name, change] : changes) {
    CAPTURE(name);
    one.invalidate(k);
    (void)one.fetch(k, [](const tn::key&, tn::load_context& load) {
      load.tag("a");
      return kpi{1, "old"};
    });
    REQUIRE(comes_near(one, k));
    const auto push = with.push();
    with.hold(push);
    change();
    for (int i = 0; i < 5; ++i) {
      const auto found = one.get(k);
      CHECK((!found || (*found)->unit == "new"));
    }
    with.release(push);
  }
}

TEST_CASE("T6: what was read and kept while an own invalidation was on its way is dropped when that returns") {
  const support::must_end ends;
  rig with;
  const tn::key k = portfolio_kpi(acme);
  const auto known = support::connections(with.direct);
  const tn::client other{support::near_server::patient(with.proxy.url())};
  tn::cache<std::string> by{other, {.envelope = tn::envelope::bare}};
  (void)by.get(k);
  const auto all = support::connections(with.direct);
  const auto own = std::ranges::find_if(all, [&](const auto& each) {
    return each.port != 0 && std::ranges::count(known, each.id, &support::connection_seen::id) == 0;
  });
  REQUIRE(own != all.end());
  with.set(k, "old");
  with.hold(with.push());
  const auto before = with.proxy.taken(support::flow::to_server);
  with.proxy.apply_to(own->port, support::flow::to_server, {.carries = support::faults::transport::holds});
  auto changing = support::on_thread([&] { (void)by.invalidate(k); });
  const bool begun = eventually([&] { return with.proxy.taken(support::flow::to_server) > before + 40; });
  const std::string first = text_at(with.cache, k);
  const bool kept = is_near(with.cache, k);
  with.proxy.apply_to(own->port, support::flow::to_server, {});
  changing.get();
  CHECK(begun);
  CHECK(first == "old");
  CHECK(kept);
  CHECK(text_at(with.cache, k) == "nothing");
}

TEST_CASE("T8: another's change right after an own one is not taken for the own one") {
  const support::must_end ends;
  rig with;
  const tn::key k = portfolio_kpi(acme);
  for (int round = 0; round < 5; ++round) {
    with.keep(k, "old");
    const auto push = with.push();
    with.hold(push);
    with.cache.put(k, "mine");
    CHECK(text_at(with.cache, k) == "mine");
    CHECK(text_at(with.cache, k) == "mine");
    with.set(k, "theirs");
    with.release(push);
    CHECK(with.gives(k, "theirs"));
    for (int i = 0; i < 100; ++i) CHECK(text_at(with.cache, k) == "theirs");
  }
}

TEST_CASE("T18: a flush of the server during a read: what was read is not kept") {
  const support::must_end ends;
  rig with;
  const tn::key k = portfolio_kpi(acme);
  with.set(k, "old");
  const auto given = read_around(with, k, [&] {
    const auto before = with.cache.near_stats().flushes_by_server;
    with.direct.execute("FLUSHALL");
    REQUIRE(eventually([&] { return with.cache.near_stats().flushes_by_server > before; }));
  });
  CHECK(given == "old");
  CHECK(text_at(with.cache, k) == "nothing");
}

TEST_CASE("T21: an own invalidation during a read: what was read is not kept, though no message has come yet") {
  const support::must_end ends;
  rig with;
  const tn::client other{support::near_server::patient(with.proxy.url())};
  tn::cache<std::string> by{other, {.envelope = tn::envelope::bare}};
  (void)by.get(portfolio_kpi(acme));  // so that it is connected
  for (const bool puts : {false, true}) {
    CAPTURE(puts);
    const tn::key k = gateway_health(acme, puts ? "put" : "invalidated");
    with.set(k, "old");
    const auto push = with.push();
    with.hold(push);
    const auto given = read_around(with, k, [&] {
      if (puts) {
        by.put(k, "new");
      } else {
        by.invalidate(k);
      }
    });
    CHECK(given == "old");
    CHECK(text_at(with.cache, k) == (puts ? "new" : "nothing"));
    CHECK(text_at(with.cache, k) == (puts ? "new" : "nothing"));
    with.release(push);
  }
}
