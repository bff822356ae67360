// expect: tenantry: this cache needs a codec for its values
#include <tenantry/cache.hpp>

#ifndef TENANTRY_FORBIDDEN
#include <tenantry/json_codec.hpp>

#include <nlohmann/json.hpp>
#endif

struct kpi {
  int property_count = 0;
};

#ifdef TENANTRY_FORBIDDEN
tenantry::cache<kpi>* use(tenantry::cache<kpi>* cache) { return cache + 1; }
#else
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, property_count)
tenantry::cache<kpi>* use(tenantry::cache<kpi>* cache) { return cache + 1; }
#endif
