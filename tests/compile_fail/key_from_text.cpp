// expect: tenantry: a key is rendered by a key_schema, it cannot be made from a string
#include <tenantry/key_schema.hpp>

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

#ifdef TENANTRY_FORBIDDEN
auto use(const tenantry::tenant_id&) { return tenantry::key{"kpi:acme:portfolio"}; }
#else
auto use(const tenantry::tenant_id& acme) { return tenantry::key{portfolio_kpi(acme)}; }
#endif
