// expect: tenantry: this schema has no placeholder of that name
#include <tenantry/key_schema.hpp>

inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading_monthly;

#ifdef TENANTRY_FORBIDDEN
auto use() { return reading_monthly.parse("")->get<"meter">(); }
#else
auto use() { return reading_monthly.parse("")->get<"unit">(); }
#endif
