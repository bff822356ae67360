// expect: tenantry: a schema has no empty segment
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"kpi:{tenant}::portfolio"> schema;
#else
constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> schema;
#endif

static_assert(!schema.text().empty());
