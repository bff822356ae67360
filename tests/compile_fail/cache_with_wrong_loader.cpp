// expect: tenantry: a loader is called with (), (const key&) or (const key&, load_context&) and returns the value
#include <tenantry/cache.hpp>

#include <string>

#ifdef TENANTRY_FORBIDDEN
auto use(const tenantry::client& redis) {
  return tenantry::cache<std::string>{redis, {}, [](int) { return std::string{}; }};
}
#else
auto use(const tenantry::client& redis) {
  return tenantry::cache<std::string>{redis, {}, [](const tenantry::key&) { return std::string{}; }};
}
#endif
