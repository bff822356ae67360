// expect: tenantry: a schema has at most 16 segments and 128 characters
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"a:{tenant}:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17"> schema;
#else
constexpr tenantry::key_schema<"a:{tenant}:3:4:5:6:7:8:9:10:11:12:13:14:15:16"> schema;
#endif

static_assert(!schema.text().empty());
