// expect: tenantry: an argument of a schema is text or an integer
#include <tenantry/key_schema.hpp>

inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading_monthly;

#ifdef TENANTRY_FORBIDDEN
auto use(const tenantry::tenant_id& acme) { return reading_monthly(acme, true, 2026, 3); }
#else
auto use(const tenantry::tenant_id& acme) { return reading_monthly(acme, 1, 2026, 3); }
#endif
