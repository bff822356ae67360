#pragma once
// Rows whose sides run in many threads.

#include "bench.hpp"
#include "threads.hpp"

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace bench {

/// Connections of the baseline.
inline constexpr int pool_size = 20;

/// A side of a row with threads, which are there while it runs.
class crowd {
 public:
  crowd(unsigned threads, std::function<void()> work) : threads_{threads}, work_{std::move(work)} {}

  void run(std::size_t times) {
    if (!team_) team_ = std::make_unique<team>(threads_, work_);
    if (measured_) team_->measure_latencies();
    team_->run(times);
  }
  void measure_latencies() { measured_ = true; }
  /// The 99th percentile of the latest round in microseconds.
  double p99() { return bench::p99(team_->take_latencies()); }

 private:
  unsigned threads_;
  std::function<void()> work_;
  bool measured_ = false;
  std::unique_ptr<team> team_;
};

inline row crowd_row(std::string name, unsigned threads, std::function<void()> ours, std::function<void()> baseline) {
  auto our_threads = std::make_shared<crowd>(threads, std::move(ours));
  auto their_threads = std::make_shared<crowd>(threads, std::move(baseline));
  return {.name = std::move(name),
          .baseline_name = "hiredis pool of 20",
          .ours = [our_threads](std::size_t times) { our_threads->run(times); },
          .baseline = [their_threads](std::size_t times) { their_threads->run(times); }};
}

}  // namespace bench
