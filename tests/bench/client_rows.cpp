#include "bench.hpp"
#include "crowd.hpp"
#include "raw_redis.hpp"
#include "redis_pool.hpp"

#include <tenantry/client.hpp>

#include <memory>
#include <string>
#include <vector>

namespace bench {

namespace {

const std::string key = "bench:acme:value";

struct fixture {
  explicit fixture(const std::string& url) : redis{url}, raw{port_of(url)}, pool{port_of(url), pool_size} {
    redis.execute("SET", key, value);
  }
  std::string value = std::string(512, 'v');
  tenantry::client redis;
  raw_redis raw;
  redis_pool pool;
};

row latency_row(std::string name, unsigned threads, std::function<void()> ours, std::function<void()> baseline) {
  auto our_threads = std::make_shared<crowd>(threads, std::move(ours));
  auto their_threads = std::make_shared<crowd>(threads, std::move(baseline));
  our_threads->measure_latencies();
  their_threads->measure_latencies();
  return {.name = std::move(name),
          .unit = "us",
          .baseline_name = "hiredis pool of 20",
          .higher_is_better = false,
          .ours = [our_threads](std::size_t times) { our_threads->run(times); },
          .baseline = [their_threads](std::size_t times) { their_threads->run(times); },
          .ours_figure = [our_threads] { return our_threads->p99(); },
          .baseline_figure = [their_threads] { return their_threads->p99(); }};
}

}  // namespace

void add_client_rows(std::vector<row>& rows, const std::string& url) {
  auto on = std::make_shared<fixture>(url);
  const auto get = [on] { keep(on->redis.execute("GET", key)); };
  const auto pool_get = [on] { on->pool.with([](raw_redis& one) { keep(one.get(key)); }); };

  rows.push_back({.name = "get_1",
                  .baseline_name = "hiredis GET",
                  .ours =
                      [get](std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) get();
                      },
                  .baseline =
                      [on](std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) keep(on->raw.get(key));
                      }});
  rows.push_back(crowd_row("get_8", 8, get, pool_get));
  rows.push_back(crowd_row("get_64", 64, get, pool_get));
  rows.push_back(crowd_row("get_256", 256, get, pool_get));
  rows.push_back(crowd_row(
      "set_64", 64, [on] { keep(on->redis.execute("SETEX", key, 300, on->value)); },
      [on] { on->pool.with([on](raw_redis& one) { one.setex(key, on->value); }); }));
  rows.push_back(latency_row("get_64_p99", 64, get, pool_get));
}

}  // namespace bench
