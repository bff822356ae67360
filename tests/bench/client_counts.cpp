#include "bench.hpp"
#include "raw_redis.hpp"
#include "support/allocation_counter.hpp"
#include "system_calls.hpp"

#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>

#include <cstddef>
#include <fstream>
#include <malloc.h>
#include <string>
#include <vector>

namespace bench {

namespace {

constexpr int times = 1000;
const std::string key = "bench:acme:value";

double threads_of_this_process() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Threads:")) return std::stod(line.substr(8));
  }
  return 0;
}

tenantry::task<void> get_in_turn(tenantry::client& redis, std::size_t& allocations) {
  keep(co_await redis.async_execute("GET", key));
  const support::allocation_counter counter;
  for (int i = 0; i < times; ++i) keep(co_await redis.async_execute("GET", key));
  allocations = counter.count();
}

}  // namespace

void add_client_counts(std::vector<count_row>& rows, const std::string& url) {
  rows.push_back({.name = "get_1_syscalls",
                  .unit = "calls",
                  .baseline_name = "hiredis GET",
                  .ours =
                      [url] {
                        return system_calls_per(times, [url](auto&& count) {
                          tenantry::client redis{url};
                          redis.execute("SET", key, std::string(512, 'v'));
                          count([&] { keep(redis.execute("GET", key)); });
                        });
                      },
                  .baseline =
                      [url] {
                        return system_calls_per(times, [url](auto&& count) {
                          raw_redis raw{port_of(url)};
                          count([&] { keep(raw.get(key)); });
                        });
                      }});
  rows.push_back({.name = "get_allocs",
                  .unit = "allocs",
                  .baseline_name = {},
                  .ours =
                      [url] {
                        const tenantry::client redis{url};
                        redis.execute("SET", key, std::string(512, 'v'));
                        const support::allocation_counter counter;
                        for (int i = 0; i < times; ++i) keep(redis.execute("GET", key));
                        return static_cast<double>(counter.count()) / times;
                      },
                  .baseline = {}});
  rows.push_back({.name = "async_allocs",
                  .unit = "allocs",
                  .baseline_name = {},
                  .ours =
                      [url] {
                        auto options = tenantry::client_options::from_url(url);
                        options.executor = tenantry::inline_executor();
                        tenantry::client redis{options};
                        std::size_t allocations = 0;
                        tenantry::sync_wait(get_in_turn(redis, allocations));
                        return static_cast<double>(allocations) / times;
                      },
                  .baseline = {}});
  rows.push_back({.name = "idle_client",
                  .unit = "KiB",
                  .baseline_name = {},
                  .ours =
                      [url] {
                        const auto before = ::mallinfo2();
                        const tenantry::client redis{url};
                        keep(redis.execute("GET", key));
                        const auto after = ::mallinfo2();
                        return static_cast<double>(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) /
                               1024;
                      },
                  .baseline = {}});
  rows.push_back({.name = "idle_threads",
                  .unit = "threads",
                  .baseline_name = {},
                  .ours =
                      [url] {
                        const double before = threads_of_this_process();
                        const tenantry::client redis{url};
                        keep(redis.execute("GET", key));
                        return threads_of_this_process() - before;
                      },
                  .baseline = {}});
}

}  // namespace bench
