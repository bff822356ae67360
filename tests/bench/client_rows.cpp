#include "bench.hpp"
#include "raw_redis.hpp"

#include <tenantry/client.hpp>

#include <memory>
#include <string>

namespace bench {

void add_client_rows(std::vector<row>& rows, const std::string& url) {
  auto redis = std::make_shared<tenantry::client>(url);
  auto raw = std::make_shared<raw_redis>(port_of(url));
  const std::string key = "bench:acme:value";
  redis->execute("SET", key, std::string(512, 'v'));

  rows.push_back({.name = "get_1",
                  .baseline_name = "hiredis GET",
                  .ours =
                      [redis, key](std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) keep(redis->execute("GET", key));
                      },
                  .baseline =
                      [raw, key](std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) keep(raw->get(key));
                      }});
}

}  // namespace bench
