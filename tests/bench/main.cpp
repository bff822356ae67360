// tenantry_bench [--json FILE] [--rounds N] [NAME...]: runs the rows of these names, or all.

#include "bench.hpp"

#include <tenantry/testing/redis_server.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct arguments {
  std::string json_file;
  bench::plan how;
  std::vector<std::string> names;
};

int usage() {
  fmt::print(stderr, "usage: tenantry_bench [--json FILE] [--rounds N] [NAME...]\n");
  return 2;
}

bool read(int argc, char** argv, arguments& out) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--json" || word == "--rounds") {
      if (++i == argc) return false;
      const std::string_view value = argv[i];
      if (word == "--json") {
        out.json_file = value;
      } else if (std::from_chars(value.data(), value.data() + value.size(), out.how.rounds).ec != std::errc{} ||
                 out.how.rounds < 1) {
        return false;
      }
    } else if (word.starts_with('-')) {
      return false;
    } else {
      out.names.emplace_back(word);
    }
  }
  return true;
}

void write_json(const std::string& file, const std::vector<bench::result>& results) {
  auto list = nlohmann::json::array();
  for (const bench::result& each : results) {
    list.push_back({{"name", each.name},
                    {"ours", each.ours},
                    {"baseline", each.baseline},
                    {"baseline_name", each.baseline_name},
                    {"unit", each.unit},
                    {"ratio", each.ratio},
                    {"higher_is_better", each.higher_is_better}});
  }
  std::ofstream out{file};
  out << list.dump(2) << '\n';
  if (!out.flush()) throw std::runtime_error{"cannot write " + file};
}

void print(const bench::result& one) {
  const bool counted = one.baseline_name.empty();
  fmt::print("{:<16} {:>14.{}f} {:>14.0f}  {:<8} {:<20} {:>6.{}f}  {:.2f} to {:.2f}\n", one.name, one.ours,
             counted ? 1 : 0, one.baseline, one.unit, one.baseline_name, one.ratio, one.ratio < 0.01 ? 5 : 2,
             one.ratio_low, one.ratio_high);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  arguments asked;
  if (!read(argc, argv, asked)) return usage();

  const tenantry::testing::redis_server server;
  std::vector<bench::row> rows;
  bench::add_name_rows(rows);
  bench::add_client_rows(rows, server.url());
  bench::add_async_rows(rows, server.url());
  bench::add_tenant_rows(rows, server.url());
  bench::add_cache_rows(rows, server.url());
  bench::add_near_rows(rows, server.url());
  bench::add_limiter_rows(rows, server.url());
  bench::add_sweep_rows(rows);
  bench::add_subscriber_rows(rows, server.url());

  std::vector<bench::count_row> counts;
  bench::add_client_counts(counts, server.url());
  bench::add_limiter_counts(counts, server.url());
  bench::add_subscriber_counts(counts, server.url());
  bench::add_near_counts(counts, server.url());
  bench::add_dashboard_rows(counts, server.url());

  std::vector<bench::result> results;
  fmt::print("{:<16} {:>14} {:>14}  {:<8} {:<20} {:>6}  {}\n", "row", "ours", "baseline", "unit", "baseline is",
             "ratio", "quartiles");
  const auto wanted = [&asked](const std::string& name) {
    return asked.names.empty() || std::ranges::find(asked.names, name) != asked.names.end();
  };
  for (const bench::count_row& each : counts) {
    if (wanted(each.name)) print(results.emplace_back(bench::run(each)));
  }
  for (const bench::row& each : rows) {
    if (wanted(each.name)) print(results.emplace_back(bench::run(each, asked.how)));
  }
  if (results.empty()) {
    fmt::print(stderr, "no row has any of these names\n");
    return 2;
  }
  if (!asked.json_file.empty()) write_json(asked.json_file, results);
  return 0;
} catch (const std::exception& fault) {
  fmt::print(stderr, "tenantry_bench: {}\n", fault.what());
  return 1;
}
