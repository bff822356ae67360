// expect: tenantry: a channel_pattern is made by channel_schema::all, it cannot be made from a string
#include <tenantry/channel.hpp>

inline constexpr tenantry::channel_schema<"alarms:{tenant}"> alarms;

#ifdef TENANTRY_FORBIDDEN
auto use(const tenantry::tenant_id&) { return tenantry::channel_pattern{"alarms:*"}; }
#else
auto use(const tenantry::tenant_id& acme) { return tenantry::channel_pattern{alarms.all(acme)}; }
#endif
