// expect: tenantry: {tenant} stands in a schema once
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"kpi:{tenant}:{tenant}"> schema;
#else
constexpr tenantry::key_schema<"kpi:{tenant}:{owner}"> schema;
#endif

static_assert(!schema.text().empty());
