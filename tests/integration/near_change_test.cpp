// What ends the life of a value in a near cache: changes by other processes, and by this one.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/near_rig.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
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
using support::other_process;
using support::portfolio_kpi;
using support::redis_rig;
using support::site;
using support::text_at;
using support::tracks;

const tn::tenant_id& globex() {
  static const tn::tenant_id other{"globex"};
  return other;
}
const tn::catalog& all_keys() {
  static const tn::catalog keys{portfolio_kpi, gateway_health};
  return keys;
}

/// Loaded, stored with this tag, read back, and in memory.
void keep(tn::cache<kpi>& cache, const tn::key& k, const kpi& value, const std::string& tag = {}) {
  (void)cache.fetch(k, [&](const tn::key&, tn::load_context& load) {
    if (!tag.empty()) load.tag(tag);
    return value;
  });
  REQUIRE(comes_near(cache, k));
  REQUIRE(cache.get(k).value()->unit == value.unit);
}
std::string unit_at(tn::cache<kpi>& cache, const tn::key& k) {
  const auto found = cache.get(k);
  if (!found) return "nothing";
  return found->absent() ? "absent" : (*found)->unit;
}

using change = std::function<void(tn::cache<kpi>&, const tn::invalidator&)>;
struct named_change {
  const char* name;
  change what;
  std::string leaves;
};
/// Of gateway 1 of acme, whose tag is "a"; and what is read afterwards.
const std::vector<named_change>& changes() {
  static const tn::key k = gateway_health(acme, 1);
  static const std::vector<named_change> all{
      {"put",
       [](auto& cache, auto&) {
         cache.put(k, {2, "new"});
       },
       "new"},
      {"put of nothing", [](auto& cache, auto&) { cache.put(k, std::nullopt); }, "absent"},
      {"put with a ticket",
       [](auto& cache, auto&) {
         const auto ticket = cache.begin(k);
         if (!cache.put(k, {2, "new"}, ticket)) throw std::runtime_error{"not stored"};
       },
       "new"},
      {"invalidate", [](auto& cache, auto&) { cache.invalidate(k); }, "nothing"},
      {"expire", [](auto& cache, auto&) { cache.expire(k); }, "nothing"},
      {"invalidate tag",
       [](auto&, auto& inv) {
         inv.invalidate(tn::tag{acme, "a"});
       },
       "nothing"},
      {"expire tag",
       [](auto&, auto& inv) {
         inv.expire(tn::tag{acme, "a"});
       },
       "nothing"},
      {"invalidate tenant", [](auto&, auto& inv) { inv.invalidate(acme); }, "nothing"},
      {"expire tenant", [](auto&, auto& inv) { inv.expire(acme); }, "nothing"},
      {"sweep", [](auto&, auto& inv) { (void)inv.sweep(acme); }, "nothing"},
  };
  return all;
}
const std::vector<named_change>& coroutine_changes() {
  static const tn::key k = gateway_health(acme, 1);
  static const std::vector<named_change> all{
      {"async_put",
       [](auto& cache, auto&) {
         tn::sync_wait(cache.async_put(k, {2, "new"}));
       },
       "new"},
      {"async_invalidate", [](auto& cache, auto&) { tn::sync_wait(cache.async_invalidate(k)); }, "nothing"},
      {"async_expire", [](auto& cache, auto&) { tn::sync_wait(cache.async_expire(k)); }, "nothing"},
      {"async_invalidate tag",
       [](auto&, auto& inv) {
         auto done = inv.async_invalidate(tn::tag{acme, "a"});
         tn::sync_wait(std::move(done));
       },
       "nothing"},
      {"async_expire tag",
       [](auto&, auto& inv) {
         auto done = inv.async_expire(tn::tag{acme, "a"});
         tn::sync_wait(std::move(done));
       },
       "nothing"},
      {"async_invalidate tenant", [](auto&, auto& inv) { tn::sync_wait(inv.async_invalidate(acme)); }, "nothing"},
      {"async_expire tenant", [](auto&, auto& inv) { tn::sync_wait(inv.async_expire(acme)); }, "nothing"},
      {"async_sweep", [](auto&, auto& inv) { (void)tn::sync_wait(inv.async_sweep(acme)); }, "nothing"},
  };
  return all;
}

}  // namespace

TEST_CASE("near: whatever another process changes is given from memory no longer than its message takes") {
  support::need_redis();
  std::vector<change> actions;
  for (const named_change& each : changes()) actions.push_back(each.what);
  other_process other{redis_rig::server().url(), actions};
  const support::must_end ends{100s};
  const redis_rig redis;
  site one{near_by({.negative_ttl = 5min})};
  REQUIRE(tracks(one.cache));
  const tn::key k = gateway_health(acme, 1);
  for (std::size_t i = 0; i < changes().size(); ++i) {
    CAPTURE(changes()[i].name);
    one.cache.invalidate(k);
    keep(one.cache, k, {1, "old"}, "a");
    other.does(i);
    CHECK(eventually([&] { return unit_at(one.cache, k) == changes()[i].leaves; }));
    const auto seen = one.cache.near_stats();
    CHECK(seen.tracking);
    CHECK(seen.flushes_push_lost + seen.flushes_lane_lost + seen.flushes_by_server == 0);
  }
}

TEST_CASE("near: a change of a tag or a tenant by another process leaves other tags and tenants in memory") {
  support::need_redis();
  other_process other{redis_rig::server().url(),
                      {[](auto&, auto& inv) {
                         inv.invalidate(tn::tag{acme, "a"});
                       },
                       [](auto&, auto& inv) { inv.invalidate(acme); },
                       [](auto& cache, auto&) {
                         cache.put(gateway_health(acme, 1), {3, "new"});
                       }}};
  const support::must_end ends;
  const redis_rig redis;
  site one{near_by()};
  REQUIRE(tracks(one.cache));
  const tn::key tagged = gateway_health(acme, 1);
  const tn::key otherwise = gateway_health(acme, 2);
  const tn::key untagged = gateway_health(acme, 3);
  const tn::key theirs = gateway_health(globex(), 1);
  keep(one.cache, tagged, {1, "old"}, "a");
  keep(one.cache, otherwise, {1, "other"}, "b");
  keep(one.cache, untagged, {1, "untagged"});
  keep(one.cache, theirs, {1, "theirs"}, "a");
  support::settle(one.cache, redis.client);
  for (const tn::key& each : {tagged, otherwise, untagged, theirs}) REQUIRE(comes_near(one.cache, each));
  other.does(0);
  CHECK(eventually([&] { return unit_at(one.cache, tagged) == "nothing"; }));
  CHECK(is_near(one.cache, theirs));
  CHECK(unit_at(one.cache, otherwise) == "other");  // a tag writes the stamp of its tenant, perhaps
  CHECK(unit_at(one.cache, untagged) == "untagged");
  other.does(2);
  CHECK(eventually([&] { return unit_at(one.cache, tagged) == "new"; }));
  CHECK(is_near(one.cache, theirs));
  other.does(1);
  for (const tn::key& gone : {tagged, otherwise, untagged}) {
    CHECK(eventually([&] { return unit_at(one.cache, gone) == "nothing"; }));
  }
  CHECK(is_near(one.cache, theirs));
  CHECK(unit_at(one.cache, theirs) == "theirs");
}

TEST_CASE("near: a raw DEL, SET, RENAME, or a lost stamp by another program is noticed as well") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<std::string> bare{redis.client, bare_near_by()};
  const tn::client raw{support::patient_options()};
  REQUIRE(tracks(bare));
  const tn::key k = portfolio_kpi(acme);
  const auto keep_raw = [&] {
    raw.execute("SET", k, "old");
    REQUIRE(eventually([&] { return text_at(bare, k) == "old" && is_near(bare, k); }));
  };
  keep_raw();
  raw.execute("SET", k, "new");
  CHECK(eventually([&] { return text_at(bare, k) == "new"; }));
  for (const char* way : {"DEL", "UNLINK"}) {
    keep_raw();
    raw.execute(way, k);
    CHECK(eventually([&] { return text_at(bare, k) == "nothing"; }));
  }
  keep_raw();
  raw.execute("RENAME", k, "elsewhere");
  CHECK(eventually([&] { return text_at(bare, k) == "nothing"; }));
  keep_raw();
  raw.execute("APPEND", k, "er");
  CHECK(eventually([&] { return text_at(bare, k) == "older"; }));

  site one{near_by()};
  REQUIRE(tracks(one.cache));
  const tn::key stamped = gateway_health(acme, 1);
  for (const char* stamp : {"stamp:{acme}", "stamp:{acme}:tag:a"}) {
    CAPTURE(stamp);
    one.cache.invalidate(stamped);
    keep(one.cache, stamped, {1, "old"}, "a");
    REQUIRE(raw.execute("DEL", stamp).integer() == 1);
    if (std::string{stamp} == "stamp:{acme}") {
      CHECK(eventually([&] { return unit_at(one.cache, stamped) == "nothing"; }));
    } else {
      // The tag's stamp counts where the tenant's has changed since: an invalidation writes both.
      raw.execute("DEL", "stamp:{acme}");
      CHECK(eventually([&] { return unit_at(one.cache, stamped) == "nothing"; }));
    }
  }
}

TEST_CASE("near: who changed a value reads it at once, whatever the change and its face, also through another client") {
  const support::must_end ends{100s};
  const redis_rig redis;
  site one{near_by({.negative_ttl = 5min})};
  site two{near_by({.negative_ttl = 5min})};
  site plain{{.negative_ttl = 5min}};
  REQUIRE(tracks(one.cache));
  REQUIRE(tracks(two.cache));
  const tn::key k = gateway_health(acme, 1);
  for (const auto* list : {&changes(), &coroutine_changes()}) {
    for (const named_change& each : *list) {
      for (site* by : {&one, &two, &plain}) {
        CAPTURE(each.name, by == &one, by == &two);
        const tn::invalidator inv{by->redis, all_keys()};
        by->cache.invalidate(k);
        keep(one.cache, k, {1, "old"}, "a");
        keep(two.cache, k, {1, "old"}, "a");
        each.what(by->cache, inv);
        CHECK(unit_at(one.cache, k) == each.leaves);
        CHECK(unit_at(two.cache, k) == each.leaves);
      }
    }
  }
}

TEST_CASE("near: who changed a value reads it at once, from memory or not, a thousand times") {
  const support::must_end ends;
  const redis_rig redis;
  site one{near_by()};
  site two{near_by()};
  REQUIRE(tracks(one.cache));
  REQUIRE(tracks(two.cache));
  const tn::key k = portfolio_kpi(acme);
  std::atomic<bool> over{false};
  auto busy = support::on_thread([&] {
    while (!over) (void)one.cache.get(k);
  });
  int old = 0;
  for (int i = 1; i <= 1000; ++i) {
    (i % 2 == 0 ? one : two).cache.put(k, {i, "put"});
    for (site* by : {&one, &two}) {
      const auto found = by->cache.get(k);
      if (!found || (*found)->property_count != i) ++old;
    }
  }
  over = true;
  busy.get();
  CHECK(old == 0);
}

TEST_CASE("near: the store of a load replaces what was in memory of other caches of the process") {
  const support::must_end ends;
  const redis_rig redis;
  site one{near_by({.stale_for = 1h})};
  site two{near_by({.stale_for = 1h})};
  REQUIRE(tracks(one.cache));
  REQUIRE(tracks(two.cache));
  const tn::key k = portfolio_kpi(acme);
  keep(one.cache, k, {1, "old"});
  keep(two.cache, k, {1, "old"});
  one.cache.expire(k);
  CHECK(one.cache.fetch(k, [] { return kpi{2, "new"}; }).source() == tn::source::computed);
  CHECK(unit_at(one.cache, k) == "new");
  CHECK(unit_at(two.cache, k) == "new");
}

TEST_CASE("near: a stale copy is never kept, nor given from memory") {
  const support::must_end ends;
  const redis_rig redis;
  site one{near_by({.stale_for = 1h, .failure_throttle = 1ms})};
  REQUIRE(tracks(one.cache));
  const tn::key k = portfolio_kpi(acme);
  keep(one.cache, k, {1, "old"});
  one.cache.expire(k);
  for (int i = 0; i < 20; ++i) {
    const auto copy = one.cache.fetch(k, []() -> kpi { throw support::odd_fault{1}; });
    CHECK(copy.source() == tn::source::stale);
  }
  CHECK_FALSE(one.cache.get(k).has_value());
  CHECK(eventually([&] { return one.cache.fetch(k, [] { return kpi{2, "new"}; })->unit == "new"; }));
}
