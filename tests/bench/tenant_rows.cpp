// What a tenant that floods costs the others.

#include "bench.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bench {

namespace {

constexpr int flooding_calls = 8000;
const std::string key = "bench:acme:value";

tenantry::task<void> flood(tenantry::caller through, const std::atomic<bool>& enough) {
  try {
    while (!enough) keep(co_await through.async_execute("GET", key));
  } catch (const tenantry::connection_error& fault) {  // beyond the tenant's share
    if (fault.code() != tenantry::errc::overloaded) throw;
  }
}

/// The calls of one caller, one after the other, while another one keeps thousands under way.
class quiet_caller {
 public:
  quiet_caller(tenantry::client& redis, const tenantry::tenant_id* flooding, const tenantry::tenant_id* quiet)
      : flooding_{redis.with({.tenant = flooding})}, quiet_{redis.with({.tenant = quiet})} {}

  void run(std::size_t times) {
    std::atomic<bool> enough = false;
    std::vector<tenantry::task<void>> calls;
    for (int i = 0; i < flooding_calls; ++i) calls.push_back(flood(flooding_, enough));
    std::atomic<bool> over = false;
    tenantry::start(tenantry::when_all(std::move(calls)), [&over](const std::exception_ptr& fault) {
      if (fault) std::terminate();
      over = true;
      over.notify_one();
    });
    for (std::size_t i = 0; i < times; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      keep(tenantry::sync_wait(quiet_.async_execute("GET", key)));
      latencies_.push_back(std::chrono::duration<float, std::micro>(std::chrono::steady_clock::now() - begin).count());
    }
    enough = true;
    over.wait(false);
  }
  double p99() { return bench::p99(std::exchange(latencies_, {})); }

 private:
  tenantry::caller flooding_;
  tenantry::caller quiet_;
  std::vector<float> latencies_;
};

}  // namespace

void add_tenant_rows(std::vector<row>& rows, const std::string& url) {
  struct fixture {
    explicit fixture(const std::string& url)
        : redis{[&url] {
            auto options = tenantry::client_options::from_url(url);
            options.timeout = std::chrono::seconds{10};
            options.executor = tenantry::inline_executor();
            return options;
          }()} {
      redis.execute("SET", key, std::string(512, 'v'));
    }
    tenantry::client redis;
    tenantry::tenant_id flooding{"acme"};
    tenantry::tenant_id quiet{"globex"};
    quiet_caller named{redis, &flooding, &quiet};
    quiet_caller nameless{redis, nullptr, nullptr};
  };
  auto on = std::make_shared<fixture>(url);
  rows.push_back({.name = "flooded_p99",
                  .unit = "us",
                  .baseline_name = "no tenants named",
                  .higher_is_better = false,
                  .ours = [on](std::size_t times) { on->named.run(times); },
                  .baseline = [on](std::size_t times) { on->nameless.run(times); },
                  .ours_figure = [on] { return on->named.p99(); },
                  .baseline_figure = [on] { return on->nameless.p99(); }});
}

}  // namespace bench
