#include "services.hpp"

#include "settlement_pdf.hpp"

#include <tenantry/key.hpp>
#include <tenantry/load_context.hpp>

#include <chrono>
#include <optional>
#include <string>

namespace gateway {

namespace tn = tenantry;
using namespace std::chrono_literals;

namespace {

std::chrono::year_month this_month() {
  const std::chrono::year_month_day today{std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now())};
  return today.year() / today.month();
}

}  // namespace

std::int64_t unix_now() noexcept {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

services::services(const tn::client& to, store& from, const service_options& how)
    : redis{to},
      database{from},
      kpis{to,
           {.ttl = 5min,
            .stale_for = 1h,
            .executor = loaders.get_executor(),
            .undelivered = tn::undelivered::queue,
            .near = in_memory},
           [&from](const tn::key& k, tn::load_context& load) {
             load.tag(kpi_tag);  // readings expire it
             return from.portfolio(k.tenant(), unix_now());
           }},
      months{to,
             {.ttl = 24h,
              .negative_ttl = 30s,
              .executor = loaders.get_executor(),
              .undelivered = tn::undelivered::queue,
              .near = in_memory},
             [&from](const tn::key& k, tn::load_context& load) -> std::optional<month> {
               const auto parts = reading_monthly.parse(k.str());
               const int year = std::stoi(std::string{parts->get<"year">()});  // the routes let nothing else in
               const auto number = static_cast<unsigned>(parts->get<"month">());
               const auto asked = std::chrono::year{year} / std::chrono::month{number};
               if (asked >= this_month()) load.ttl(10min);  // it is not closed yet
               return from.readings(k.tenant(), parts->get<"unit">(), year, static_cast<int>(number));
             }},
      settlements{to,
                  {.ttl = 7 * 24h, .negative_ttl = 30s, .executor = loaders.get_executor(), .near = in_memory},
                  [&from](const tn::key& k) -> std::optional<std::string> {
                    const auto parts = settlement_pdf.parse(k.str());
                    const auto found = from.find_settlement(k.tenant(), parts->get<"settlement">());
                    if (!found) return std::nullopt;
                    return pdf_of(k.tenant(), *found);
                  }},
      gateways{to, {.ttl = 2min, .jitter = 0}},
      invalidate{to, tn::catalog{portfolio_kpi, gateway_health, reading_monthly, settlement_pdf},
                 tn::undelivered::queue},
      limiter{to, tn::on_failure::insurance(how.instances), {.limit = how.limit, .window = 60s}},
      alarm_log{to, alarms, {.keep = 10'000}},
      subscriber{to} {}

}  // namespace gateway
