// Loads that callers can leave behind: time-outs, values renewed before they end, coroutines, and an end to it all.
#include "schemas.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using schemas::portfolio_kpi;
using schemas::reading_monthly;

struct kpi {
  int units = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, units)

/// Stands for a query that takes long, and can be told to stop.
kpi slow_query(const std::stop_token& stop) {
  for (int i = 0; i < 100 && !stop.stop_requested(); ++i) std::this_thread::sleep_for(2ms);
  return {.units = 480};
}

tenantry::task<int> units_of_year(tenantry::cache<kpi>& kpis, std::vector<tenantry::key> months) {
  int units = 0;
  const std::vector<tenantry::cached<kpi>> year = co_await kpis.async_fetch_many(std::move(months));
  for (const tenantry::cached<kpi>& month : year) units += month->units;
  co_return units;
}

tenantry::task<bool> replace(tenantry::cache<kpi>& kpis, const tenantry::key& k) {
  const tenantry::load_ticket ticket = co_await kpis.async_begin(k);
  const bool stored = co_await kpis.async_put(k, kpi{.units = 500}, ticket);
  const auto now = co_await kpis.async_get(k);
  co_await kpis.async_invalidate(k);
  co_return stored&& now && (*now)->units == 500;
}

int main(int argc, char** argv) try {
  const tenantry::client redis{argc > 1 ? argv[1] : "redis://localhost:6379"};
  const tenantry::tenant_id acme{"acme"};
  tenantry::thread_pool queries{4};  // before the cache, so that it goes after it

  tenantry::cache<kpi> kpis{redis,
                            {.ttl = 5min,
                             .stale_for = 1h,
                             .refresh_ahead = 0.8,
                             .executor = queries.get_executor(),
                             .soft_timeout = 20ms,
                             .hard_timeout = 2s},
                            [](const tenantry::key&, tenantry::load_context& load) { return slow_query(load.stop()); }};

  const tenantry::key k = portfolio_kpi(acme);
  const bool computed = kpis.fetch(k).source() == tenantry::source::computed;  // there is no copy: waits, up to 2 s
  kpis.expire(k);
  const bool in_time = kpis.fetch(k).source() == tenantry::source::stale;  // after 20 ms; the query goes on

  tenantry::cache<kpi> strict{
      redis,
      {.ttl = 5min, .executor = queries.get_executor(), .hard_timeout = 20ms},
      [](const tenantry::key&, tenantry::load_context& load) { return slow_query(load.stop()); }};
  bool late = false;
  try {
    static_cast<void>(strict.fetch(reading_monthly(acme, "unit-5", 2026, 3)));
  } catch (const tenantry::timeout_error& failed) {
    late = failed.code() == tenantry::errc::load_timeout;  // the query goes on, and its value is stored
  }

  std::vector<tenantry::key> months;
  for (int month = 1; month <= 3; ++month) months.push_back(reading_monthly(acme, "unit-6", 2026, month));
  const bool summed = sync_wait(units_of_year(kpis, months)) == 3 * 480;
  const bool replaced = sync_wait(replace(kpis, months.front()));

  const bool ended = kpis.close(5s);  // load.stop() is triggered, and loads that are under way are waited for
  return computed && in_time && late && summed && replaced && ended ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
