// expect: tenantry: the prefixes stamp, log, ratelimit and permits belong to the library
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"ratelimit:{tenant}:portfolio"> schema;
#else
constexpr tenantry::key_schema<"ratelimit_of_ours:{tenant}:portfolio"> schema;
#endif

static_assert(!schema.text().empty());
