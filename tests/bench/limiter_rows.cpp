// What it costs to ask whether a request may pass.

#include "bench.hpp"
#include "crowd.hpp"
#include "raw_redis.hpp"
#include "redis_pool.hpp"

#include <tenantry/client.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace bench {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t tenants = 500;
constexpr std::size_t paths = 100;

std::size_t any_below(std::size_t limit) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return random() % limit;
}

const std::vector<tenantry::tenant_id>& all_tenants() {
  static const std::vector<tenantry::tenant_id> all = [] {
    std::vector<tenantry::tenant_id> made;
    for (std::size_t i = 0; i < tenants; ++i) made.emplace_back("tenant-" + std::to_string(i));
    return made;
  }();
  return all;
}
const std::vector<std::string>& all_paths() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> made;
    for (std::size_t i = 0; i < paths; ++i) made.push_back("/api/resource/" + std::to_string(i));
    return made;
  }();
  return all;
}

struct limiters {
  explicit limiters(const std::string& url)
      : redis{url},
        log{redis, tenantry::on_failure::fail_open, {.kind = tenantry::limit_kind::sliding_log}, {.timeout = 5s}},
        segmented{
            redis, tenantry::on_failure::fail_open, {.kind = tenantry::limit_kind::segmented_log}, {.timeout = 5s}},
        gcra{redis, tenantry::on_failure::fail_open, {.kind = tenantry::limit_kind::gcra}, {.timeout = 5s}},
        hot{redis, tenantry::on_failure::fail_open, {.limit = 4'000'000'000, .window = 1h}, {.timeout = 5s}},
        denying{redis, tenantry::on_failure::fail_open, {.limit = 1, .window = 24h}, {.timeout = 5s}},
        pool{port_of(url), pool_size} {}
  tenantry::client redis;
  tenantry::rate_limiter log;
  tenantry::rate_limiter segmented;
  tenantry::rate_limiter gcra;
  tenantry::rate_limiter hot;
  tenantry::rate_limiter denying;
  redis_pool pool;
};

double bytes_of(const tenantry::client& redis, const std::string& key) {
  return static_cast<double>(redis.execute("MEMORY", "USAGE", key, "SAMPLES", 0).integer());
}

/// A key whose limit is reached.
double full_key(const std::string& url, std::uint64_t limit) {
  const tenantry::client redis{url};
  tenantry::rate_limiter limiter{
      redis, tenantry::on_failure::fail_closed, {.limit = limit, .window = 1h}, {.timeout = 5s}};
  const tenantry::tenant_id acme{"acme"};
  while (limiter.acquire(acme, "/api/kpi")) continue;
  const char* const end = limiter.kind() == tenantry::limit_kind::sliding_log ? "#log" : "#seg";
  return bytes_of(redis, std::string{"ratelimit:{acme}:/api/kpi"} + end);
}
double full_sorted_set(const std::string& url, std::uint64_t limit) {
  const tenantry::client redis{url};
  const std::string key = "ratelimit:{acme}:/api/kpi#zset";
  redis.execute("DEL", key);
  for (std::uint64_t i = 0; i < limit; ++i) {
    const std::string now = std::to_string(1'795'000'000'000'000 + i * 1000);
    keep(redis.execute("ZADD", key, now, now + '-' + std::to_string(i % 10)));
  }
  return bytes_of(redis, key);
}

}  // namespace

void add_limiter_rows(std::vector<row>& rows, const std::string& url) {
  auto on = std::make_shared<limiters>(url);
  const auto ours = [on](tenantry::rate_limiter& which) {
    return [on, &which] { keep(which.acquire(all_tenants()[any_below(tenants)], all_paths()[any_below(paths)])); };
  };
  const auto usual = [on] {
    const std::string key = "usual:" + all_tenants()[any_below(tenants)].str() + ':' + all_paths()[any_below(paths)];
    on->pool.with([&](raw_redis& one) { keep(one.usual_limit(key, 60'000)); });
  };
  rows.push_back(crowd_row("limit_log", 64, ours(on->log), usual));
  rows.push_back(crowd_row("limit_segmented", 64, ours(on->segmented), usual));
  rows.push_back(crowd_row("limit_gcra", 64, ours(on->gcra), usual));
  rows.push_back(crowd_row(
      "limit_hot", 64, [on] { keep(on->hot.acquire(all_tenants()[0], "/hot")); },
      [on] { on->pool.with([](raw_redis& one) { keep(one.usual_limit("usual:hot", 60'000)); }); }));
  auto one = std::make_shared<raw_redis>(port_of(url));
  rows.push_back({.name = "limit_denied",
                  .baseline_name = "hiredis GET",
                  .ours =
                      [on](std::size_t times) {
                        for (; times > 0; --times) keep(on->denying.acquire(all_tenants()[0], "/denied"));
                      },
                  .baseline =
                      [one](std::size_t times) {
                        for (; times > 0; --times) keep(one->get("usual:none"));
                      }});
}

void add_limiter_counts(std::vector<count_row>& rows, const std::string& url) {
  for (const std::uint64_t limit : {100, 1'000, 10'000}) {
    rows.push_back({.name = "limit_bytes_" + std::to_string(limit),
                    .unit = "bytes",
                    .baseline_name = "sorted set",
                    .ours = [url, limit] { return full_key(url, limit); },
                    .baseline = [url, limit] { return full_sorted_set(url, limit); }});
  }
}

}  // namespace bench
