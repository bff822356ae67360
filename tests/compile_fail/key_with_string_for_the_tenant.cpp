// expect: tenantry: the first argument is a tenant_id
#include <tenantry/key_schema.hpp>

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

#ifdef TENANTRY_FORBIDDEN
auto use() { return portfolio_kpi("acme"); }
#else
auto use() { return portfolio_kpi(tenantry::tenant_id{"acme"}); }
#endif
