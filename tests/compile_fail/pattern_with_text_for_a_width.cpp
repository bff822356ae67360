// expect: tenantry: a placeholder with a width, like {month:02}, takes an integer
#include <tenantry/key_schema.hpp>

inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading_monthly;

#ifdef TENANTRY_FORBIDDEN
auto use(const tenantry::tenant_id& acme) { return reading_monthly.all(acme, "unit-7", 2026, "*"); }
#else
auto use(const tenantry::tenant_id& acme) { return reading_monthly.all(acme, "unit-7", 2026, 3); }
#endif
