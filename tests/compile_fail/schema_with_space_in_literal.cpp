// expect: tenantry: a literal segment holds no space
#include <tenantry/key_schema.hpp>

#ifdef TENANTRY_FORBIDDEN
constexpr tenantry::key_schema<"kpi:{tenant}:port folio"> schema;
#else
constexpr tenantry::key_schema<"kpi:{tenant}:port_folio"> schema;
#endif

static_assert(!schema.text().empty());
