// The figures of a tenant's portfolio: computed once, then served from Redis.
#include <tenantry/tenantry.hpp>

#include <chrono>
#include <iostream>

namespace tn = tenantry;

struct kpi {
  int properties = 0;
  int units = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, properties, units)

inline constexpr tn::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

int main(int argc, char** argv) try {
  tn::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  tn::cache<kpi> kpis{redis, {.ttl = std::chrono::minutes{5}}, [](const tn::key& k) {
                        std::cout << "asking the database about " << k.tenant().str() << '\n';
                        return kpi{.properties = 12, .units = 480};  // your query
                      }};

  const tn::tenant_id acme{"acme"};  // from the access token; refused unless it is well formed
  for (int visit = 1; visit <= 2; ++visit) {
    const tn::cached<kpi> hit = kpis.fetch(portfolio_kpi(acme));
    std::cout << hit->units << " units, source: " << to_string(hit.source()) << '\n';  // computed, then redis
  }
  kpis.invalidate(portfolio_kpi(acme));  // the portfolio changed: the next fetch computes again
} catch (const tn::error& failure) {     // typed: connection_error, timeout_error, server_error, invalid_name, ...
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
