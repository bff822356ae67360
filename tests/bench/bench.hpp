#pragma once
// Rows of the benchmark: ours and a baseline, alternating in one run.

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace bench {

/// Keeps a result from being optimised away.
template <class T>
void keep(const T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

/// One line of the table. A side is run for `rounds` rounds of about `round_time` each, in turn with the other.
struct row {
  std::string name;
  std::string unit = "op/s";
  std::string baseline_name;
  bool higher_is_better = true;
  /// Does its thing `times` times.
  std::function<void(std::size_t times)> ours;
  std::function<void(std::size_t times)> baseline;
  /// Where the figure is not the rate: what a side's round came to, read after it.
  std::function<double()> ours_figure = {};
  std::function<double()> baseline_figure = {};
  /// Restores what a side uses up: done before each of its rounds, outside of their time. Such a side does its thing
  /// once in a round, and there are fewer rounds (`plan::prepared_rounds`).
  std::function<void()> prepare = {};
  /// How many operations one time is, where the figure is the rate.
  std::size_t done_at_once = 1;
};

/// A line that is counted once, not timed.
struct count_row {
  std::string name;
  std::string unit;
  std::string baseline_name;
  std::function<double()> ours;
  std::function<double()> baseline;
};

struct result {
  std::string name;
  double ours = 0;
  double baseline = 0;
  std::string baseline_name;
  std::string unit;
  double ratio = 0;      // median of the rounds' ratios
  double ratio_low = 0;  // quartiles
  double ratio_high = 0;
  bool higher_is_better = true;
};

struct plan {
  int rounds = 15;
  int prepared_rounds = 5;  ///< at most, of rows that are prepared before each
  std::chrono::milliseconds round_time{100};
};

/// The 99th percentile. Of nothing: 0.
double p99(std::vector<float> values);

result run(const row& which, const plan& how);
result run(const count_row& which);

/// Every file of rows adds its own; `url` is that of a private server.
void add_client_rows(std::vector<row>& rows, const std::string& url);
void add_async_rows(std::vector<row>& rows, const std::string& url);
void add_client_counts(std::vector<count_row>& rows, const std::string& url);
void add_tenant_rows(std::vector<row>& rows, const std::string& url);
void add_cache_rows(std::vector<row>& rows, const std::string& url);
void add_near_rows(std::vector<row>& rows, const std::string& url);
void add_near_counts(std::vector<count_row>& rows, const std::string& url);
void add_dashboard_rows(std::vector<count_row>& rows, const std::string& url);
void add_limiter_rows(std::vector<row>& rows, const std::string& url);
void add_limiter_counts(std::vector<count_row>& rows, const std::string& url);
void add_sweep_rows(std::vector<row>& rows);
void add_subscriber_rows(std::vector<row>& rows, const std::string& url);
void add_subscriber_counts(std::vector<count_row>& rows, const std::string& url);
void add_name_rows(std::vector<row>& rows);

}  // namespace bench
