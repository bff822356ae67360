#include "bench.hpp"
#include "crowd.hpp"
#include "raw_redis.hpp"
#include "redis_pool.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/key_schema.hpp>

#include <nlohmann/json.hpp>

#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

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

template <class T>
std::function<void(std::size_t)> many(T&& once) {
  return [once = std::forward<T>(once)](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) once();
  };
}

}  // namespace

void add_cache_rows(std::vector<row>& rows, const std::string& url) {
  struct fixture {
    explicit fixture(const std::string& address)
        : redis{address}, texts{redis}, values{redis}, raw{port_of(address)}, pool{port_of(address), pool_size} {}
    tenantry::client redis;
    tenantry::cache<std::string> texts;
    tenantry::cache<kpi> values;
    raw_redis raw;
    redis_pool pool;
  };
  auto on = std::make_shared<fixture>(url);
  const tenantry::tenant_id acme{"acme"};
  const tenantry::key text = page_kpi(acme, "text");
  const tenantry::key json = page_kpi(acme, "json");
  const std::string plain_text = "bench:acme:plain:text";
  const std::string plain_json = "bench:acme:plain:json";
  on->texts.put(text, std::string(512, 'v'));
  on->values.put(json, example());
  on->redis.execute("SET", plain_text, std::string(512, 'v'));
  on->redis.execute("SET", plain_json, nlohmann::json(example()).dump());

  const auto fetch = [on, text] {
    keep(on->texts.fetch(text, []() -> std::string { throw std::logic_error{"not a hit"}; }));
  };
  const auto fetch_json = [on, json] {
    keep(on->values.fetch(json, []() -> kpi { throw std::logic_error{"not a hit"}; }));
  };
  const auto pool_get = [on, plain_text] { on->pool.with([&](raw_redis& one) { keep(one.get_text(plain_text)); }); };
  const auto pool_get_json = [on, plain_json] {
    on->pool.with([&](raw_redis& one) { keep(nlohmann::json::parse(one.get_text(plain_json)).get<kpi>()); });
  };
  rows.push_back(
      {.name = "fetch_1", .baseline_name = "hiredis GET", .ours = many(fetch), .baseline = many([on, plain_text] {
                                                                                 keep(on->raw.get_text(plain_text));
                                                                               })});
  rows.push_back(crowd_row("fetch_64", 64, fetch, pool_get));
  rows.push_back(
      {.name = "fetch_json_1",
       .baseline_name = "hiredis GET, parsed",
       .ours = many(fetch_json),
       .baseline = many([on, plain_json] { keep(nlohmann::json::parse(on->raw.get_text(plain_json)).get<kpi>()); })});
  rows.push_back(crowd_row("fetch_json_64", 64, fetch_json, pool_get_json));
}

}  // namespace bench
