// expect: tenantry: a channel is rendered by a channel_schema, it cannot be made from a string
#include <tenantry/channel.hpp>

inline constexpr tenantry::channel_schema<"alarms:{tenant}"> alarms;

#ifdef TENANTRY_FORBIDDEN
auto use(const tenantry::tenant_id&) { return tenantry::channel{"alarms:acme"}; }
#else
auto use(const tenantry::tenant_id& acme) { return tenantry::channel{alarms(acme)}; }
#endif
