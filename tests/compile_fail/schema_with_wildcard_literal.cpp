// expect: tenantry: a literal segment holds no space
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"kpi:{tenant}:port*"> schema;
#else
constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> schema;
#endif

static_assert(!schema.text().empty());
