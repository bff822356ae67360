// expect: tenantry: the patterns of two schemas of this catalog overlap
#include <tenantry/catalog.hpp>

inline constexpr tenantry::key_schema<"readings:{tenant}:{unit}"> reading;
inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}"> reading_monthly;
inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

#ifdef TENANTRY_FORBIDDEN
auto use() { return tenantry::catalog{reading, reading_monthly}; }
#else
auto use() { return tenantry::catalog{portfolio_kpi, reading_monthly}; }
#endif
