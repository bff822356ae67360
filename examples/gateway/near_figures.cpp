#include "near_figures.hpp"

#include <tenantry/cache_options.hpp>
#include <tenantry/metrics.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>

namespace gateway {

namespace tn = tenantry;
using nlohmann::json;

namespace {

double seconds(std::chrono::nanoseconds span) { return std::chrono::duration<double>(span).count(); }

}  // namespace

json staleness(const services& of) {
  const tn::near_stats now = of.kpis.near_stats();  // of the client, these are the same for all caches
  const auto delay = [&now](double q) {
    return now.push_delay.count == 0 ? json{} : json(1000 * seconds(now.push_delay.quantile(q)));
  };
  return {{"tracking", now.tracking},
          {"max_age_ms", in_memory.max_age.count()},
          {"push_delay_ms", {{"p50", delay(0.5)}, {"p99", delay(0.99)}}}};
}

void show_near(const services& of, metrics_page& page) {
  const std::array<std::pair<std::string_view, tn::near_stats>, 3> caches{{
      {"kpi", of.kpis.near_stats()},
      {"month", of.months.near_stats()},
      {"settlement", of.settlements.near_stats()},
  }};
  const auto of_each = [&](std::uint64_t tn::near_stats::*figure) {
    for (const auto& [name, now] : caches) page.add(static_cast<double>(now.*figure), {{"cache", name}});
  };
  page.gauge("gateway_near_values", "Values in memory.");
  of_each(&tn::near_stats::values);
  page.gauge("gateway_near_bytes", "Memory that they take.");
  of_each(&tn::near_stats::bytes);
  page.counter("gateway_near_evictions_total", "Values that made room.");
  of_each(&tn::near_stats::evictions);

  const tn::near_stats& all = caches.front().second;  // of the client
  page.gauge("gateway_near_tracking", "1 while Redis tells of changes, so that values are kept in memory.");
  page.add(all.tracking ? 1 : 0);
  page.counter("gateway_near_invalidations_total", "Keys that Redis said have changed.");
  page.add(static_cast<double>(all.invalidations));
  page.counter("gateway_near_flushes_total", "Times that all values in memory were dropped.");
  page.add(static_cast<double>(all.flushes_push_lost), {{"cause", "push_lost"}})
      .add(static_cast<double>(all.flushes_lane_lost), {{"cause", "lane_lost"}})
      .add(static_cast<double>(all.flushes_by_server), {{"cause", "by_server"}});
  page.gauge("gateway_near_push_delay_seconds", "From a write of this instance to what Redis tells of it.");
  page.add(seconds(all.push_delay.quantile(0.5)), {{"quantile", "0.5"}})
      .add(seconds(all.push_delay.quantile(0.99)), {{"quantile", "0.99"}});
}

}  // namespace gateway
