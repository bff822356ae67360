// expect: tenantry: two placeholders of a schema have the same name
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"readings:{tenant}:{unit}:{unit}"> schema;
#else
constexpr tenantry::key_schema<"readings:{tenant}:{unit}:{meter}"> schema;
#endif

static_assert(!schema.text().empty());
