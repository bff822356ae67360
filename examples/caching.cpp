// What a cache does about invalidations, failures, absence and many keys at once; each function is one page of
// docs/cache.
#include "schemas.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/json_codec.hpp>

#include <chrono>
#include <iostream>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using schemas::portfolio_kpi;
using schemas::reading_monthly;
using schemas::settlement_pdf;

struct kpi {
  int units = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, units)

/// Stands for a database that is changed, and away at times.
struct database {
  int units = 480;
  bool away = false;

  [[nodiscard]] kpi compute() const {
    if (away) throw std::runtime_error{"the database is away"};
    return {.units = units};
  }
};

bool invalidation(const tenantry::client& redis, database& db, const tenantry::tenant_id& acme) {
  tenantry::cache<kpi> kpis{redis, {.ttl = 5min}, [&db](const tenantry::key&, tenantry::load_context& load) {
                              load.tag("property:42");  // the value is made of this property
                              return db.compute();
                            }};
  const tenantry::invalidator inv{redis, tenantry::catalog{portfolio_kpi, reading_monthly}};
  const tenantry::key k = portfolio_kpi(acme);
  static_cast<void>(kpis.fetch(k));
  db.units = 500;  // and committed

  kpis.invalidate(k);                                  // one value
  inv.invalidate(tenantry::tag{acme, "property:42"});  // all that are made of this property
  inv.invalidate(acme);                                // all of the tenant
  const bool fresh = kpis.fetch(k)->units == 500;

  kpis.expire(k);  // the same three, softly
  inv.expire(tenantry::tag{acme, "property:42"});
  inv.expire(acme);

  const tenantry::load_ticket ticket = kpis.begin(k);  // before the value is read
  const kpi value = db.compute();
  const bool stored = kpis.put(k, value, ticket);  // false: something was invalidated meanwhile

  kpis.invalidate(k, {.hold = 2s});  // the replicas that loaders read lag behind
  return fresh && stored && !kpis.fetch(k).stored();
}

bool undelivered(const tenantry::client& redis, database& db, const tenantry::tenant_id& acme) {
  tenantry::cache<kpi> kpis{redis,
                            {.ttl = 5min, .redis_timeout = 50ms, .undelivered = tenantry::undelivered::queue},
                            [&db](const tenantry::key&) { return db.compute(); }};
  const tenantry::invalidator inv{redis, tenantry::catalog{portfolio_kpi}, tenantry::undelivered::queue};
  const bool done = kpis.invalidate(portfolio_kpi(acme)) == tenantry::delivery::done;  // or queued: Redis is away
  inv.invalidate(acme);
  return done && inv.queued() == 0;
}

bool stale(const tenantry::client& redis, database& db, const tenantry::tenant_id& acme) {
  tenantry::cache<kpi> kpis{redis, {.ttl = 5min, .stale_for = 1h, .failure_throttle = 1s}, [&db](const tenantry::key&) {
                              return db.compute();
                            }};
  const tenantry::key k = reading_monthly(acme, "unit-7", 2026, 3);
  static_cast<void>(kpis.fetch(k));
  kpis.expire(k);
  db.away = true;
  const tenantry::cached<kpi> old = kpis.fetch(k);
  const bool served = old.source() == tenantry::source::stale;  // computed | redis | stale
  kpis.invalidate(k);
  bool refused = false;
  try {
    static_cast<void>(kpis.fetch(k));  // nothing to fall back on: what the loader threw
  } catch (const std::runtime_error&) {
    refused = true;
  }
  try {
    static_cast<void>(kpis.fetch(k));
  } catch (const tenantry::load_failed& failed) {
    refused = refused && failed.retry_after() <= 1s;  // nobody asks the database until then
  }
  db.away = false;
  return served && refused;
}

bool refresh(const tenantry::client& redis, const database& db, const tenantry::tenant_id& acme) {
  tenantry::cache<kpi> at_random{redis, {.ttl = 5min, .refresh_beta = 1}};
  const tenantry::cached<kpi> one = at_random.fetch(portfolio_kpi(acme), [&db] { return db.compute(); });
  tenantry::cache<kpi> kpis{
      redis, {.ttl = 5min, .refresh_ahead = 0.8}, [&db](const tenantry::key&) { return db.compute(); }};
  return kpis.fetch(reading_monthly(acme, "unit-8", 2026, 3))->units == one->units;
}

bool absent(const tenantry::client& redis, const tenantry::tenant_id& acme) {
  tenantry::cache<std::string> pdfs{redis,
                                    {.ttl = 24h * 7, .negative_ttl = 30s},
                                    [](const tenantry::key&) -> std::optional<std::string> { return std::nullopt; }};
  const tenantry::key k = settlement_pdf(acme, "s9");
  const tenantry::cached<std::string> pdf = pdfs.fetch(k);
  if (pdf.absent()) std::cout << "no such settlement\n";
  const auto known = pdfs.get(k);  // nothing: a miss
  const bool known_to_be_absent = known && known->absent();
  pdfs.put(k, "%PDF...");  // it was made meanwhile
  return known_to_be_absent && *pdfs.fetch(k) == "%PDF...";
}

bool many(const tenantry::client& redis, const database& db, const tenantry::tenant_id& acme) {
  tenantry::cache<kpi> kpis{redis,
                            {.ttl = 10min},
                            [&db](const tenantry::key&) { return db.compute(); },
                            [&db](std::span<const tenantry::key> missing) {  // one query for all
                              return std::vector<kpi>(missing.size(), db.compute());
                            }};
  std::vector<tenantry::key> months;
  for (int month = 1; month <= 12; ++month) months.push_back(reading_monthly(acme, "unit-9", 2026, month));
  const std::vector<tenantry::cached<kpi>> year = kpis.fetch_many(months);
  return year.size() == 12 && year[11]->units == db.units;
}

int main(int argc, char** argv) try {
  database db;
  const tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  const tenantry::tenant_id acme{"acme"};
  const bool all = invalidation(redis, db, acme) && undelivered(redis, db, acme) && stale(redis, db, acme) &&
                   refresh(redis, db, acme) && absent(redis, acme) && many(redis, db, acme);
  return all ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
