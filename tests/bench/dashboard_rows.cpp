// How often a thousand dashboards have the database asked.

#include "bench.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/tenant.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

inline constexpr tenantry::key_schema<"dashboard:{tenant}:kpi"> dashboard_kpi;

// A TTL of five minutes and a dashboard that asks every five seconds, a hundred times as fast.
constexpr auto ttl = 3s;
constexpr auto every = 50ms;
constexpr auto load_time = 20ms;
constexpr auto watched_for = 9s;
constexpr std::size_t tenants = 20;
constexpr std::size_t dashboards = 1000;
constexpr std::size_t processes = 4;
constexpr std::size_t threads = 8;

/// A server process: its own client, cache and database connection.
struct process {
  process(const std::string& url, std::atomic<std::uint64_t>& loads)
      : redis{url}, kpis{redis, {.ttl = ttl}, [&loads](const tenantry::key& k) {
                           ++loads;
                           std::this_thread::sleep_for(load_time);
                           return k.str();
                         }} {}
  tenantry::client redis;
  tenantry::cache<std::string> kpis;
};

struct outcome {
  std::uint64_t loads = 0;
  std::uint64_t fetches = 0;
};

outcome watch(const std::string& url) {
  std::atomic<std::uint64_t> loads{0};
  std::atomic<std::uint64_t> fetches{0};
  std::vector<std::unique_ptr<process>> all;
  for (std::size_t i = 0; i < processes; ++i) all.push_back(std::make_unique<process>(url, loads));
  const auto end = clock::now() + watched_for;
  {
    std::vector<std::jthread> crowd;
    for (std::size_t t = 0; t < threads; ++t) {
      crowd.emplace_back([&, t] {
        for (auto next = clock::now(); next < end; next += every) {
          std::this_thread::sleep_until(next);
          for (std::size_t i = t; i < dashboards; i += threads) {
            const tenantry::tenant_id whose{"tenant-" + std::to_string(i % tenants)};
            keep(all[t % processes]->kpis.fetch(dashboard_kpi(whose)));
            ++fetches;
          }
        }
      });
    }
  }
  return {loads, fetches};
}

}  // namespace

void add_dashboard_rows(std::vector<count_row>& rows, const std::string& url) {
  auto seen = std::make_shared<outcome>();
  rows.push_back({.name = "dashboards",
                  .unit = "calls",
                  .baseline_name = "fetches",
                  .ours =
                      [seen, url] {
                        *seen = watch(url);
                        return static_cast<double>(seen->loads);
                      },
                  .baseline = [seen] { return static_cast<double>(seen->fetches); }});
}

}  // namespace bench
