// expect: tenantry: fetch takes a key, rendered by a key_schema, not a string
#include <tenantry/cache.hpp>
#include <tenantry/key_schema.hpp>

#include <string>

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

#ifdef TENANTRY_FORBIDDEN
void use(tenantry::cache<std::string>& cache) {
  cache.fetch("kpi:acme:portfolio", [] { return std::string{}; });
}
#else
auto use(tenantry::cache<std::string>& cache, const tenantry::tenant_id& acme) {
  return cache.fetch(portfolio_kpi(acme), [] { return std::string{}; });
}
#endif
