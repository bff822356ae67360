// expect: tenantry: a placeholder fills a whole segment
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"health:{tenant}:gw-{gateway}"> schema;
#else
constexpr tenantry::key_schema<"health:{tenant}:gateway:{gateway}"> schema;
#endif

static_assert(!schema.text().empty());
