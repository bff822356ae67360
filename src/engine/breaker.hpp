#pragma once
// Stops calls to a server that fails, and finds out when it has recovered.

#include <tenantry/breaker_options.hpp>
#include <tenantry/error.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace tenantry::detail {

/// Errors: invalid_option, naming the field.
void check(const breaker_options& options);

/// True for the failures of a call for which Redis is at fault, or the way to it.
[[nodiscard]] bool counts_against_server(errc code) noexcept;

enum class breaker_state : unsigned char { closed, open, half_open };

/// "closed", "open" or "half_open".
[[nodiscard]] std::string_view to_string(breaker_state state) noexcept;

/// Closed: all calls pass. Open: none does, until the time is over, or a call that was made without asking has
/// succeeded. Half open: one call at a time passes as a probe; a success closes the breaker, a failure opens it for
/// longer.
///
/// Not promised: that an outcome that comes in while half open is the probe's. One of an earlier call counts the same.
/// While open, failures and the successes of calls that began before are not counted.
///
/// Threads: all members from any thread. Closed and without failures, `allow` is one atomic read, and `succeeded` two
/// and one atomic addition.
class breaker {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// The options have passed `check`.
  explicit breaker(const breaker_options& options) noexcept : options_{options} {}

  /// Whether a call may be made. If so, `succeeded` or `failed` follows, or neither when the call ended for a reason
  /// that says nothing about the server (cancelled, closed).
  [[nodiscard]] bool allow(time_point now) {
    return state_.load(std::memory_order_relaxed) == breaker_state::closed || allow_probe(now);
  }

  /// The server answered, if only with an error. `openings` are those before the call. True when this closed the
  /// breaker.
  bool succeeded(time_point now, std::uint64_t openings) {
    if (state_.load(std::memory_order_relaxed) != breaker_state::closed) return close(now, openings);
    count(now, one_success);
    if (in_a_row_.load(std::memory_order_relaxed) != 0) in_a_row_.store(0, std::memory_order_relaxed);
    return false;
  }

  /// The call failed with a code that counts against the server. `random01` is in [0, 1). True when this opened the
  /// breaker, also again.
  bool failed(time_point now, double random01);

  /// Changes only in the members above: a breaker that nobody asks stays open.
  [[nodiscard]] breaker_state state() const noexcept { return state_.load(std::memory_order_relaxed); }
  /// How often it has opened.
  [[nodiscard]] std::uint64_t openings() const noexcept { return openings_.load(std::memory_order_relaxed); }

 private:
  // A second of the window: its number in the upper 20 bits, then 22 bits of failures and 22 of successes.
  static constexpr std::size_t window = 10;
  static constexpr std::size_t places = 16;  // a power of two, not less than window
  static constexpr unsigned count_bits = 22;
  static constexpr std::uint64_t most = (std::uint64_t{1} << count_bits) - 1;
  static constexpr std::uint64_t margin = 4096;  // threads that may add at once after they have found room
  static constexpr std::uint64_t one_success = 1;
  static constexpr std::uint64_t one_failure = std::uint64_t{1} << count_bits;

  static std::uint64_t second_of(time_point now) noexcept {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
    return static_cast<std::uint64_t>(seconds);
  }
  static std::uint64_t stamp_of(std::uint64_t second) noexcept { return second << (2 * count_bits); }
  static std::uint64_t successes(std::uint64_t entry) noexcept { return entry & most; }
  static std::uint64_t failures(std::uint64_t entry) noexcept { return entry >> count_bits & most; }
  static bool same_second(std::uint64_t entry, std::uint64_t stamp) noexcept {
    return entry >> (2 * count_bits) == stamp >> (2 * count_bits);
  }

  void count(time_point now, std::uint64_t one) noexcept {
    const std::uint64_t second = second_of(now);
    std::atomic<std::uint64_t>& place = seconds_[second % places];
    const std::uint64_t entry = place.load(std::memory_order_relaxed);
    if (!same_second(entry, stamp_of(second)) || successes(entry) + margin > most || failures(entry) + margin > most) {
      count_slowly(second, one);
    } else {
      place.fetch_add(one, std::memory_order_relaxed);
    }
  }

  void count_slowly(std::uint64_t second, std::uint64_t one) noexcept;
  [[nodiscard]] bool too_many(time_point now) const noexcept;
  bool allow_probe(time_point now);
  bool close(time_point now, std::uint64_t openings);
  void open(time_point now, double random01) noexcept;

  const breaker_options options_;
  std::atomic<breaker_state> state_ = breaker_state::closed;
  std::atomic<std::uint32_t> in_a_row_ = 0;
  std::atomic<std::uint64_t> openings_ = 0;
  std::array<std::atomic<std::uint64_t>, places> seconds_{};

  std::mutex mutex_;      // held to change state_
  time_point until_{};    // open: until then; half open: the probe's time is over then
  int times_opened_ = 0;  // since it was closed
};

}  // namespace tenantry::detail
