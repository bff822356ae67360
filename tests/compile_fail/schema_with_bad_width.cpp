// expect: tenantry: the width of a placeholder is a zero and a number up to 19
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"readings:{tenant}:{month:2}"> schema;
#else
constexpr tenantry::key_schema<"readings:{tenant}:{month:02}"> schema;
#endif

static_assert(!schema.text().empty());
