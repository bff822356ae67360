// What a sweep deletes, and what it leaves: exact sets of names in a real server.

#include "support/random_bytes.hpp"
#include "support/sanitized.hpp"
#include "support/sweep_rig.hpp"

#include <tenantry/invalidator.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace support;

/// All that one tenant can have of the application's names.
names owned_by(const tn::tenant_id& tenant, random_bytes& random, const std::vector<std::string>& ids,
               std::size_t count) {
  names all{kpi_of(tenant).str(), kpi_of(tenant).companion("lease"), flag(tenant).str(),
            flag(tenant).companion("lease")};
  for (std::size_t i = 0; all.size() < count; ++i) {
    const std::string& id = i < 2 * ids.size() ? ids[i % ids.size()] : ids[random.below(ids.size())];
    const std::string other = random.below(2) == 0 ? random.id() : ids[random.below(ids.size())];
    for (const tn::key& k :
         {reading(tenant, id, 2000 + i, i % 12 + 1), health(tenant, id + other), state(tenant, id, other)}) {
      all.insert(k.str());
      if (i % 3 == 0) all.insert(k.companion("lease"));
      if (i % 7 == 0) all.insert(k.companion(id));
    }
  }
  return all;
}

/// What stands beside it, and is none of a sweep's business.
names beside(const std::string& t) {
  const tn::tenant_id tenant{t};
  return {uncatalogued(tenant, "s9").str(),
          uncatalogued(tenant, "s9").companion("lease"),
          "stamp:{" + t + "}",
          "stamp:{" + t + "}:tag:property%3A42",
          "log:{" + t + "}:alarms",
          "ratelimit:{" + t + "}:/api/kpi#log",
          "permits:{" + t + "}:pdf",
          t,
          "kpi:" + t,
          "kpi:" + t + ":",
          "kpi:" + t + ":portfolio:",
          "kpi:" + t + ":portfolio#lease",
          "kpi:{" + t + "}:portfolio",
          "kpi::" + t + ":portfolio",
          "x:kpi:" + t + ":portfolio",
          "{kpi:" + t + ":portfolio}",
          "{kpi:{" + t + "}:portfolio}#lease",
          "{x:kpi:" + t + ":portfolio}#lease",
          "health:" + t + ":gateway:g",
          "{health:" + t + ":gateway:g}#lease",
          "readings:" + t + ":monthly:u:2026:3",
          "readings:" + t + ":monthly:u:2026:03:04",
          "readings:" + t + ":monthly:[" + t + "]:2026:03",
          "readings:" + t + ":monthly:{" + t + "}:2026:03",
          "state:" + t + ":u:of:g:then",
          "flag:{" + t + "}",
          "session:" + t + ":cookie"};
}

}  // namespace

TEST_CASE("of a hundred tenants with hostile ids a sweep deletes exactly one tenant's keys, and those of its pattern") {
  const sweep_rig rig;
  random_bytes random;
  std::set<std::string> tenants{
      "acme", "acme2", "xacme", "a.me", "acme.",     "acme-",    "-acme", "ACME",
      "a",    "kpi",   "7",     "42",   "portfolio", "readings", "flag",  std::string(64, 'a')};
  while (tenants.size() < 100) tenants.insert(random.tenant());
  std::vector<std::string> ids{"acme",
                               "acme2",
                               ":acme:",
                               "acme:",
                               "{acme}",
                               "*acme*",
                               "[a]cme",
                               "a?me",
                               "acme#lease",
                               "#",
                               "}#lease",
                               "%61cme",
                               "acme\\",
                               "kpi:acme:portfolio",
                               "{kpi:acme:portfolio}#lease",
                               "\xff\r\n",
                               " ",
                               "*"};
  const std::size_t keys_of_each = support::sanitized ? 1'000 : 10'000;
  std::map<std::string, names> owned;
  names all;
  for (const std::string& each : tenants) {
    owned[each] = owned_by(tn::tenant_id{each}, random, ids, keys_of_each);
    all.insert(owned[each].begin(), owned[each].end());
    all.merge(beside(each));
  }
  store(rig.redis, all);
  CHECK(all.size() > 100 * keys_of_each);

  const tn::invalidator inv{rig.redis, application};
  for (const std::string swept : {"acme", "7", "kpi"}) {
    INFO("swept: " << swept);
    const std::size_t before = all.size();
    const auto report = inv.sweep(tn::tenant_id{swept});
    all = without(std::move(all), owned[swept]);
    CHECK(everything(rig.redis) == all);
    CHECK(report.deleted == owned[swept].size());
    CHECK(report.matched >= report.deleted);
    CHECK(report.total == before);
    CHECK(report.scanned == before);
    CHECK(report.complete);
    CHECK_FALSE(report.bytes);
  }

  const tn::tenant_id acme2{"acme2"};
  for (const tn::key_pattern& pattern :
       {reading.all(acme2, "acme"), health.all(acme2), state.all(acme2), kpi_of.all(acme2)}) {
    INFO("swept: " << pattern.str());
    names of_pattern;
    for (const std::string& each : owned["acme2"]) {
      if (pattern.matches(tn::key::owner_of(each).value_or(each))) of_pattern.insert(each);
    }
    CHECK_FALSE(of_pattern.empty());
    CHECK(inv.sweep(pattern).deleted == of_pattern.size());
    all = without(std::move(all), of_pattern);
  }
  CHECK(everything(rig.redis) == all);
}

TEST_CASE("companions go with their keys, in both placements, also when the key is gone already") {
  const sweep_rig rig;
  const names mine{kpi_of(rig.acme).str(), kpi_of(rig.acme).companion("lease"), health(rig.acme, "g").str(),
                   health(rig.acme, "g").companion("lease"), reading(rig.acme, "u", 2026, 3).companion("stale")};
  const names theirs{kpi_of(rig.globex).companion("lease"), health(rig.globex, "acme").companion("acme")};
  store(rig.redis, mine);
  store(rig.redis, theirs);
  const tn::invalidator inv{rig.redis, application};
  CHECK(inv.sweep(rig.acme).deleted == 5);
  CHECK(everything(rig.redis) == theirs);
}

TEST_CASE("what lies beside the application's keys is left alone") {
  const sweep_rig rig;
  const names all = beside("acme");
  store(rig.redis, all);
  const tn::invalidator inv{rig.redis, application};
  const auto report = inv.sweep(rig.acme);
  CHECK(report.matched == 0);
  CHECK(report.complete);
  CHECK(everything(rig.redis) == all);
}

TEST_CASE("a sweep of a pattern deletes keys of that pattern and nothing else of the tenant") {
  const sweep_rig rig;
  const names others{reading(rig.acme, "unit-70", 2026, 3).str(),  reading(rig.acme, "unit", 2026, 3).str(),
                     reading(rig.acme, "7:unit-7", 2026, 3).str(), state(rig.acme, "unit-7", "g").str(),
                     reading(rig.globex, "unit-7", 2026, 3).str(), kpi_of(rig.acme).str()};
  const names mine{reading(rig.acme, "unit-7", 2026, 3).str(), reading(rig.acme, "unit-7", 1999, 12).str(),
                   reading(rig.acme, "unit-7", 2026, 3).companion("lease")};
  store(rig.redis, others);
  store(rig.redis, mine);
  const tn::invalidator inv{rig.redis, application};
  CHECK(inv.sweep(reading.all(rig.acme, "unit-7")).deleted == 3);
  CHECK(everything(rig.redis) == others);
}

TEST_CASE("a dry run deletes nothing, and counts what a sweep then deletes") {
  const sweep_rig rig;
  store(rig.redis, readings_of(rig.acme, 700));
  store(rig.redis, readings_of(rig.globex, 300));
  const names all = everything(rig.redis);
  const tn::invalidator inv{rig.redis, application};
  const auto report = inv.sweep(rig.acme, {.action = tn::sweep_action::count});
  CHECK(report == tn::sweep_report{.total = 1000, .scanned = 1000, .matched = 700, .complete = true});
  CHECK(everything(rig.redis) == all);
  CHECK(inv.sweep(rig.acme).deleted == 700);
}

TEST_CASE("a second sweep finds nothing, and keys written since are found by a third") {
  const sweep_rig rig;
  store(rig.redis, readings_of(rig.acme, 500));
  const tn::invalidator inv{rig.redis, application};
  CHECK(inv.sweep(rig.acme).deleted == 500);
  const auto second = inv.sweep(rig.acme);
  CHECK(second == tn::sweep_report{.complete = true});
  store(rig.redis, readings_of(rig.acme, 5));
  CHECK(inv.sweep(rig.acme).deleted == 5);
}

TEST_CASE("keys of any type are deleted, and counted with the bytes that the server says they take") {
  const sweep_rig rig;
  const names all = readings_of(rig.acme, 300);
  store(rig.redis, all);
  rig.redis.execute("HSET", kpi_of(rig.acme), "a", std::string(100, 'x'), "b", "2");
  rig.redis.execute("RPUSH", health(rig.acme, "g"), "1", std::string(5000, 'x'));
  rig.redis.execute("ZADD", state(rig.acme, "u", "g"), 1, "x");
  rig.redis.execute("SET", kpi_of(rig.globex), std::string(100'000, 'x'));
  std::int64_t bytes = 0;
  for (const std::string& each : everything(rig.redis)) {
    if (each != kpi_of(rig.globex).str()) bytes += rig.redis.execute("MEMORY", "USAGE", each).integer();
  }
  const tn::invalidator inv{rig.redis, application};
  const auto counted = inv.sweep(rig.acme, {.action = tn::sweep_action::count, .bytes = tn::sweep_bytes::measured});
  CHECK(counted.bytes == static_cast<std::uint64_t>(bytes));
  const auto swept = inv.sweep(rig.acme, {.bytes = tn::sweep_bytes::measured});
  CHECK(swept.bytes == static_cast<std::uint64_t>(bytes));
  CHECK(swept.deleted == 303);
  CHECK(everything(rig.redis) == names{kpi_of(rig.globex).str()});
}
