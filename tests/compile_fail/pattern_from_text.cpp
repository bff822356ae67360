// expect: tenantry: a key_pattern is made by key_schema::all, it cannot be made from a string
#include <tenantry/key_schema.hpp>

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

#ifdef TENANTRY_FORBIDDEN
auto use(const tenantry::tenant_id&) { return tenantry::key_pattern{"*"}; }
#else
auto use(const tenantry::tenant_id& acme) { return tenantry::key_pattern{portfolio_kpi.all(acme)}; }
#endif
