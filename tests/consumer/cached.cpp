// Uses the installed library with the server of its testing component: a value goes through Redis and back as JSON.

#include <tenantry/cache.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <chrono>
#include <cstdlib>

struct kpi {
  int property_count = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, property_count)

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

int main() {
  constexpr int skipped = 77;
  if (!tenantry::testing::redis_server_available() && std::getenv("TENANTRY_TEST_REQUIRE_REDIS") == nullptr) {
    return skipped;
  }
  const tenantry::testing::redis_server server;
  const tenantry::client redis{server.url()};
  tenantry::cache<kpi> kpis{redis, {.ttl = std::chrono::minutes{5}}};
  const tenantry::key key = portfolio_kpi(tenantry::tenant_id{"acme"});

  if (kpis.fetch(key, [] { return kpi{.property_count = 42}; })->property_count != 42) return 1;
  const auto again = kpis.fetch(key, [] { return kpi{}; });
  if (again->property_count != 42 || again.source() != tenantry::source::redis) return 2;

  try {
    redis.execute("LPUSH", key, "x");
    return 3;
  } catch (const tenantry::server_error& e) {
    return e.code() == tenantry::errc::wrong_type ? 0 : 4;
  }
}
