#include "bench.hpp"
#include "raw_redis.hpp"

#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bench {

namespace {

constexpr std::size_t in_flight = 1000;
const std::string key = "bench:acme:value";

tenantry::task<void> get_in_turn(tenantry::client& redis, std::size_t times) {
  for (std::size_t i = 0; i < times; ++i) keep(co_await redis.async_execute("GET", key));
}

void run(tenantry::client& redis, std::size_t times) {
  std::vector<tenantry::task<void>> all;
  for (std::size_t i = 0; i < in_flight; ++i) {
    all.push_back(get_in_turn(redis, times / in_flight + (i < times % in_flight ? 1 : 0)));
  }
  tenantry::sync_wait(tenantry::when_all(std::move(all)));
}

std::shared_ptr<tenantry::client> client_of(const std::string& url, tenantry::executor where) {
  auto options = tenantry::client_options::from_url(url);
  options.timeout = std::chrono::seconds{10};
  options.executor = std::move(where);
  auto redis = std::make_shared<tenantry::client>(std::move(options));
  redis->execute("SET", key, std::string(512, 'v'));
  return redis;
}

}  // namespace

void add_async_rows(std::vector<row>& rows, const std::string& url) {
  auto raw = std::make_shared<raw_redis>(port_of(url));
  const auto add = [&](std::string name, tenantry::executor where) {
    rows.push_back({.name = std::move(name),
                    .baseline_name = "hiredis, by hand",
                    .ours = [redis = client_of(url, std::move(where))](std::size_t times) { run(*redis, times); },
                    .baseline = [raw](std::size_t times) { raw->get_pipelined(key, times, in_flight); }});
  };
  add("async_1000", tenantry::inline_executor());
  add("async_1000_pool", {});
}

}  // namespace bench
