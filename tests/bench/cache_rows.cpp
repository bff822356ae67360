#include "bench.hpp"
#include "raw_redis.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/key_schema.hpp>

#include <map>
#include <memory>
#include <stdexcept>
#include <string>

namespace bench {

namespace {

inline constexpr tenantry::key_schema<"bench:{tenant}:kpi:{page}"> page_kpi;

/// About 512 bytes of JSON.
struct kpi {
  std::string name = "portfolio";
  int property_count = 1200;
  int unit_count = 34000;
  double consumption = 123456.789;
  std::map<std::string, double> monthly;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, name, property_count, unit_count, consumption, monthly)

kpi example() {
  kpi value;
  for (int month = 0; month < 23; ++month) value.monthly["2026-" + std::to_string(month)] = 1000.125 + month;
  return value;
}

}  // namespace

void add_cache_rows(std::vector<row>& rows, const std::string& url) {
  struct fixture {
    explicit fixture(const std::string& address) : redis{address}, values{redis}, raw{port_of(address)} {}
    tenantry::client redis;
    tenantry::cache<kpi> values;
    raw_redis raw;
  };
  auto on = std::make_shared<fixture>(url);
  const tenantry::key key = page_kpi(tenantry::tenant_id{"acme"}, "front");
  on->values.put(key, example());

  rows.push_back({.name = "cache_hit_1",
                  .baseline_name = "hiredis GET",
                  .ours =
                      [on, key](std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) {
                          keep(on->values.fetch(key, []() -> kpi { throw std::logic_error{"not a hit"}; }));
                        }
                      },
                  .baseline =
                      [on, key](std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) keep(on->raw.get(key.str()));
                      }});
}

}  // namespace bench
