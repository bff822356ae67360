// expect: tenantry: the first segment of a schema is a literal prefix
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"{kind}:{tenant}:portfolio"> schema;
#else
constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> schema;
#endif

static_assert(!schema.text().empty());
