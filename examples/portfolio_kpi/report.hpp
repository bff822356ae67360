#pragma once
// What the demo prints: figures, a line of progress, and the table.

#include "dashboards.hpp"
#include "portfolio.hpp"

#include <chrono>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace buildings {

[[nodiscard]] std::string group_digits(std::string digits);

/// 1234567 as "1,234,567".
[[nodiscard]] std::string grouped(std::integral auto number) { return group_digits(std::to_string(number)); }

/// As "0.21 ms" or "195 ms".
[[nodiscard]] std::string milliseconds(std::chrono::nanoseconds span);

/// 1234 ms as "1.2 s".
[[nodiscard]] std::string in_seconds(std::chrono::milliseconds span);

/// The latest reading: "EM-000195 at 2026-03-01 11:54, 42,398.8 kWh".
[[nodiscard]] std::string latest_reading(const portfolio_kpi& figures);

/// A line that says how far something is: rewritten in place on a terminal, else a new line once in a second.
class progress_line {
 public:
  progress_line();
  progress_line(const progress_line&) = delete;
  progress_line& operator=(const progress_line&) = delete;
  ~progress_line() { clear(); }

  void show(std::string_view text);
  /// Takes the line away, so that something else can be printed.
  void clear();

 private:
  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_;
};

/// One way to ask, as the dashboards and the database saw it.
struct column {
  statistics measured;
  std::uint64_t queries = 0;
};

void print_table(const column& with_cache, const column& without_cache);

}  // namespace buildings
