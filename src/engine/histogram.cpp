#include "engine/histogram.hpp"

#include <cmath>

namespace tenantry {

std::chrono::nanoseconds histogram::quantile(double q) const noexcept {
  if (count == 0) return {};
  const double share = q > 0 ? std::min(q, 1.0) : 0.0;
  const double rank = std::max(1.0, std::ceil(share * static_cast<double>(count)));
  std::uint64_t counted = 0;
  for (const bucket& each : buckets) {
    counted += each.count;
    if (static_cast<double>(counted) >= rank) return std::min(each.upper, max);
  }
  return max;
}

std::uint64_t histogram::count_within(std::chrono::nanoseconds upper) const noexcept {
  std::uint64_t counted = 0;
  for (const bucket& each : buckets) {
    if (each.upper > upper) break;
    counted += each.count;
  }
  return counted;
}

namespace detail {

std::chrono::nanoseconds histogram_recorder::upper_of(std::size_t index) noexcept {
  if (index == size - 1) return std::chrono::nanoseconds::max();
  const std::uint64_t octave = first_octave + (index >> sub_bits);
  const std::uint64_t sub = index & ((1U << sub_bits) - 1);
  const std::uint64_t bound = (std::uint64_t{1} << octave) + (sub << (octave - sub_bits));
  return std::chrono::nanoseconds{static_cast<std::chrono::nanoseconds::rep>(bound)};
}

histogram histogram_recorder::snapshot() const {
  histogram taken;
  taken.buckets.reserve(size);
  for (std::size_t index = 0; index < size; ++index) {
    const std::uint64_t counted = counts_[index].load(std::memory_order_relaxed);
    taken.buckets.push_back({.upper = upper_of(index), .count = counted});
    taken.count += counted;
  }
  const auto nanoseconds = [](const std::atomic<std::uint64_t>& value) {
    return std::chrono::nanoseconds{static_cast<std::chrono::nanoseconds::rep>(value.load(std::memory_order_relaxed))};
  };
  taken.sum = nanoseconds(sum_);
  taken.max = nanoseconds(max_);
  return taken;
}

}  // namespace detail

}  // namespace tenantry
