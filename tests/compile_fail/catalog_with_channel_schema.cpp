// expect: tenantry: a catalog holds key schemas only
#include <tenantry/catalog.hpp>
#include <tenantry/channel.hpp>

inline constexpr tenantry::channel_schema<"alarms:{tenant}"> alarms;
inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio_kpi;

#ifdef TENANTRY_FORBIDDEN
auto use() { return tenantry::catalog{portfolio_kpi, alarms}; }
#else
auto use() { return tenantry::catalog{portfolio_kpi}; }
#endif
