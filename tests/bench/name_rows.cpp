#include "bench.hpp"

#include <tenantry/key_schema.hpp>

#include <fmt/format.h>

#include <string>

namespace bench {

void add_name_rows(std::vector<row>& rows) {
  static constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading_monthly;
  const tenantry::tenant_id acme{"acme"};
  const std::string unit = "unit-4711";

  rows.push_back({.name = "key_render",
                  .baseline_name = "fmt::format",
                  .ours =
                      [acme, unit](std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) {
                          keep(reading_monthly(acme, unit, 2026, static_cast<int>(i % 12) + 1));
                        }
                      },
                  .baseline =
                      [acme, unit](std::size_t times) {
                        for (std::size_t i = 0; i < times; ++i) {
                          keep(fmt::format("readings:{}:monthly:{}:{}:{:02}", acme.str(), unit, 2026,
                                           static_cast<int>(i % 12) + 1));
                        }
                      }});
}

}  // namespace bench
