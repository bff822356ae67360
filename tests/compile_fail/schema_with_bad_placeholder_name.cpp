// expect: tenantry: the name of a placeholder is made of a-z, 0-9 and _
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"health:{tenant}:{Gateway}"> schema;
#else
constexpr tenantry::key_schema<"health:{tenant}:{gateway}"> schema;
#endif

static_assert(!schema.text().empty());
