// expect: tenantry: the second segment of a schema must be {tenant}
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"kpi:portfolio"> schema;
#else
constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> schema;
#endif

static_assert(!schema.text().empty());
