#pragma once
// Counts durations, for `histogram`.

#include <tenantry/metrics.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace tenantry::detail {

/// Eight buckets for each doubling from 2^10 to 2^36 ns, one for what is shorter and one for what is longer.
///
/// Threads: all members from any thread, without locks. A snapshot that is taken while others record may hold a
/// duration in `sum` or `max` that is not in `count` yet, or the other way round.
class histogram_recorder {
 public:
  void record(std::chrono::nanoseconds took) noexcept {
    const auto value = static_cast<std::uint64_t>(std::max<std::chrono::nanoseconds::rep>(took.count(), 0));
    counts_[index_of(value)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
    std::uint64_t seen = max_.load(std::memory_order_relaxed);
    while (value > seen && !max_.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
    }
  }

  [[nodiscard]] histogram snapshot() const;

 private:
  static constexpr unsigned first_octave = 10;
  static constexpr unsigned last_octave = 35;
  static constexpr unsigned sub_bits = 3;
  static constexpr std::size_t size = ((last_octave - first_octave + 1) << sub_bits) + 2;

  /// A bucket holds what is above the bucket before it and at most its own bound.
  static std::size_t index_of(std::uint64_t value) noexcept {
    if (value <= std::uint64_t{1} << first_octave) return 0;
    const auto octave = static_cast<unsigned>(std::bit_width(value - 1)) - 1;
    if (octave > last_octave) return size - 1;
    const std::uint64_t sub = (value - 1) >> (octave - sub_bits) & ((1U << sub_bits) - 1);
    return 1 + (std::size_t{octave - first_octave} << sub_bits) + static_cast<std::size_t>(sub);
  }
  static std::chrono::nanoseconds upper_of(std::size_t index) noexcept;

  std::array<std::atomic<std::uint64_t>, size> counts_{};
  std::atomic<std::uint64_t> sum_ = 0;
  std::atomic<std::uint64_t> max_ = 0;
};

static_assert(sizeof(histogram_recorder) <= 2048);

}  // namespace tenantry::detail
