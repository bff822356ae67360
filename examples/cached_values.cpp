// A cache with a loader of its own, what a result tells, and what another service sees.
#include "schemas.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/json_codec.hpp>

#include <chrono>
#include <iostream>

using namespace std::chrono_literals;
using schemas::portfolio_kpi;

struct kpi {
  int property_count = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, property_count)

struct database {
  int properties = 12;
};

kpi compute_kpi(const database& db, const tenantry::tenant_id& /*tenant*/) { return {.property_count = db.properties}; }

int main(int argc, char** argv) try {
  database db;
  tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  const tenantry::tenant_id acme{"acme"};

  tenantry::cache<kpi> kpis{
      redis, {.ttl = 5min, .jitter = 0.1}, [&db](const tenantry::key& k, tenantry::load_context&) {
        return compute_kpi(db, k.tenant());
      }};

  tenantry::cached<kpi> hit = kpis.fetch(portfolio_kpi(acme));
  std::cout << hit->property_count << '\n';
  const bool computed = hit.source() == tenantry::source::computed;  // computed | redis
  const bool in_redis = hit.stored();                                // is it in Redis, as far as this call saw
  const tenantry::error* why = hit.failure();                        // why Redis could not be asked or did not take it

  std::cout << redis.execute("GET", portfolio_kpi(acme)).str() << '\n';  // tn1 ..., and {"property_count":12}

  db.properties = 13;  // and committed
  kpis.invalidate(portfolio_kpi(acme));
  const bool fresh = kpis.fetch(portfolio_kpi(acme))->property_count == 13;
  kpis.invalidate(portfolio_kpi(acme));
  return computed && in_redis && why == nullptr && fresh ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
