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
std::size_t calibrate(const row& which, const std::function<void(std::size_t)>& side, std::chrono::milliseconds round) {
  if (which.prepare) which.prepare();
  side(1);  // starts what has to be started once
  if (which.prepare) return 1;
  for (std::size_t times = 1;; times *= 2) {
    const double took = std::min(timed(side, times), timed(side, times));
    if (took > seconds(round) / 4) {
      return std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(times) * seconds(round) / took));
    }
  }
}

/// The figure of a round: the rate, unless the row has another.
double measure(const row& which, const std::function<void(std::size_t)>& side, std::size_t times,
               const std::function<double()>& other) {
  if (which.prepare) which.prepare();
  const double took = timed(side, times);
  return other ? other() : static_cast<double>(times * which.done_at_once) / took;
}

/// The value below which the fraction `part` of them lies.
double quantile(std::vector<double> values, double part) {
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1) + 0.5)];
}

}  // namespace

double p99(std::vector<float> values) {
  if (values.empty()) return 0;
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(0.99 * static_cast<double>(values.size() - 1));
  std::ranges::nth_element(values, at);
  return static_cast<double>(*at);
}

result run(const row& which, const plan& how) {
  const std::size_t ours_times = calibrate(which, which.ours, how.round_time);
  const std::size_t baseline_times = calibrate(which, which.baseline, how.round_time);
  const auto measure_ours = [&] { return measure(which, which.ours, ours_times, which.ours_figure); };
  const int rounds = which.prepare ? std::min(how.rounds, how.prepared_rounds) : how.rounds;
  std::vector<double> ours;
  std::vector<double> baseline;
  std::vector<double> ratios;
  if (which.ours_figure) which.ours_figure();  // of the calibration
  if (which.baseline_figure) which.baseline_figure();
  for (int i = 0; i < rounds; ++i) {
    // Who goes first alternates, so that a slow moment of the machine does not always hit the same side.
    if (i % 2 == 0) ours.push_back(measure_ours());
    baseline.push_back(measure(which, which.baseline, baseline_times, which.baseline_figure));
    if (i % 2 != 0) ours.push_back(measure_ours());
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

result run(const count_row& which) {
  const double ours = which.ours();
  const double baseline = which.baseline ? which.baseline() : 0;
  const double ratio = baseline > 0 ? ours / baseline : 0;
  return {.name = which.name,
          .ours = ours,
          .baseline = baseline,
          .baseline_name = which.baseline_name,
          .unit = which.unit,
          .ratio = ratio,
          .ratio_low = ratio,
          .ratio_high = ratio,
          .higher_is_better = false};
}

}  // namespace bench
