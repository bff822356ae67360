#include "bench.hpp"

#include <algorithm>

namespace bench {

namespace {

using clock = std::chrono::steady_clock;

double seconds(clock::duration span) { return std::chrono::duration<double>(span).count(); }

double timed(const std::function<void(std::size_t)>& side, std::size_t times) {
  const auto begin = clock::now();
  side(times);
  return seconds(clock::now() - begin);
}

/// How often a side runs in one round; the first calls also warm it up.
std::size_t calibrate(const std::function<void(std::size_t)>& side, std::chrono::milliseconds round) {
  for (std::size_t times = 1;; times *= 2) {
    const double took = timed(side, times);
    if (took > seconds(round) / 4) {
      return std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(times) * seconds(round) / took));
    }
  }
}

/// The value below which the fraction `part` of them lies.
double quantile(std::vector<double> values, double part) {
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1) + 0.5)];
}

}  // namespace

result run(const row& which, const plan& how) {
  const std::size_t ours_times = calibrate(which.ours, how.round_time);
  const std::size_t baseline_times = calibrate(which.baseline, how.round_time);
  std::vector<double> ours;
  std::vector<double> baseline;
  std::vector<double> ratios;
  for (int i = 0; i < how.rounds; ++i) {
    // Who goes first alternates, so that a slow moment of the machine does not always hit the same side.
    double own = 0;
    double other = 0;
    if (i % 2 == 0) own = timed(which.ours, ours_times);
    other = timed(which.baseline, baseline_times);
    if (i % 2 != 0) own = timed(which.ours, ours_times);
    ours.push_back(static_cast<double>(ours_times) / own);
    baseline.push_back(static_cast<double>(baseline_times) / other);
    ratios.push_back(ours.back() / baseline.back());
  }
  return {.name = which.name,
          .ours = quantile(ours, 0.5),
          .baseline = quantile(baseline, 0.5),
          .baseline_name = which.baseline_name,
          .unit = which.unit,
          .ratio = quantile(ratios, 0.5),
          .ratio_low = quantile(ratios, 0.25),
          .ratio_high = quantile(ratios, 0.75),
          .higher_is_better = which.higher_is_better};
}

}  // namespace bench
