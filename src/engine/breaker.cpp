#include "engine/breaker.hpp"

#include "engine/jitter.hpp"

#include <algorithm>
#include <string>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

void check_time(std::chrono::milliseconds value, const char* field) {
  if (value < 1ms || value > 1h) throw invalid_option{std::string{field} + " is not from 1 ms to 1 h"};
}

}  // namespace

void check(const breaker_options& options) {
  if (options.consecutive_failures == 0) throw invalid_option{"breaker.consecutive_failures is 0"};
  if (!(options.failure_ratio > 0 && options.failure_ratio <= 1)) {
    throw invalid_option{"breaker.failure_ratio is not above 0 and at most 1"};
  }
  if (options.min_calls == 0) throw invalid_option{"breaker.min_calls is 0"};
  check_time(options.open_for, "breaker.open_for");
  check_time(options.longest_open_for, "breaker.longest_open_for");
  check_time(options.probe_timeout, "breaker.probe_timeout");
  if (options.longest_open_for < options.open_for) {
    throw invalid_option{"breaker.longest_open_for is less than breaker.open_for"};
  }
}

bool counts_against_server(errc code) noexcept {
  switch (code) {
    case errc::timeout:
    case errc::unreachable:
    case errc::connection_lost:
    case errc::not_ready:
      return true;
    default:
      return false;
  }
}

std::string_view to_string(breaker_state state) noexcept {
  switch (state) {
    case breaker_state::closed:
      return "closed";
    case breaker_state::open:
      return "open";
    case breaker_state::half_open:
      return "half_open";
  }
  return "unknown";
}

/// The first count of a second, or one for which there is hardly room: the latter is dropped, as there are millions.
void breaker::count_slowly(std::uint64_t second, std::uint64_t one) noexcept {
  std::atomic<std::uint64_t>& place = seconds_[second % places];
  const std::uint64_t stamp = stamp_of(second);
  std::uint64_t entry = place.load(std::memory_order_relaxed);
  while (!same_second(entry, stamp)) {
    if (place.compare_exchange_weak(entry, stamp + one, std::memory_order_relaxed)) return;
  }
  if (successes(entry) + margin <= most && failures(entry) + margin <= most) {
    place.fetch_add(one, std::memory_order_relaxed);
  }
}

bool breaker::too_many(time_point now) const noexcept {
  if (in_a_row_.load(std::memory_order_relaxed) >= options_.consecutive_failures) return true;
  const std::uint64_t last = second_of(now);
  std::uint64_t bad = 0;
  std::uint64_t all = 0;
  for (std::uint64_t second = last - (window - 1); second != last + 1; ++second) {
    const std::uint64_t entry = seconds_[second % places].load(std::memory_order_relaxed);
    if (!same_second(entry, stamp_of(second))) continue;
    bad += failures(entry);
    all += failures(entry) + successes(entry);
  }
  return all >= options_.min_calls && static_cast<double>(bad) >= options_.failure_ratio * static_cast<double>(all);
}

bool breaker::allow_probe(time_point now) {
  const std::lock_guard held{mutex_};
  if (state() == breaker_state::closed) return true;
  if (now < until_) return false;
  state_.store(breaker_state::half_open, std::memory_order_relaxed);
  until_ = now + options_.probe_timeout;
  return true;
}

bool breaker::close(time_point now, std::uint64_t openings) {
  const std::lock_guard held{mutex_};
  if (state() == breaker_state::open && openings == openings_) until_ = std::min(until_, now);
  if (state() != breaker_state::half_open) return false;
  for (auto& each : seconds_) each.store(0, std::memory_order_relaxed);
  in_a_row_.store(0, std::memory_order_relaxed);
  times_opened_ = 0;
  state_.store(breaker_state::closed, std::memory_order_relaxed);
  return true;
}

void breaker::open(time_point now, double random01) noexcept {
  const std::chrono::milliseconds most_of_it = doubled(options_.open_for, times_opened_, options_.longest_open_for);
  if (times_opened_ < 32) ++times_opened_;
  until_ = now + between(most_of_it / 2, most_of_it, random01);
  openings_.fetch_add(1, std::memory_order_relaxed);
  state_.store(breaker_state::open, std::memory_order_relaxed);
}

bool breaker::failed(time_point now, double random01) {
  const std::lock_guard held{mutex_};
  switch (state()) {
    case breaker_state::open:
      return false;
    case breaker_state::half_open:
      break;
    case breaker_state::closed:
      count(now, one_failure);
      in_a_row_.fetch_add(1, std::memory_order_relaxed);
      if (!too_many(now)) return false;
  }
  open(now, random01);
  return true;
}

}  // namespace tenantry::detail
