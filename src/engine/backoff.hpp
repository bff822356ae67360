#pragma once
// How long to wait before the next attempt to connect.

#include "engine/jitter.hpp"

#include <chrono>

namespace tenantry::detail {

/// Full jitter: from nothing to a limit that doubles with each attempt, from 20 ms to 2 s. There is no last attempt.
///
/// `random01` is in [0, 1).
class backoff {
 public:
  /// The delay before the next attempt; the first is within 20 ms.
  std::chrono::milliseconds next(double random01) noexcept {
    return between(std::chrono::milliseconds{0}, doubled(base, count(attempts_), cap), random01);
  }

  /// The delay after the server refused the credentials: from 5 s to a limit that doubles from 10 s to 30 s.
  std::chrono::milliseconds next_after_refusal(double random01) noexcept {
    return between(shortest_refused, doubled(2 * shortest_refused, count(refusals_), longest_refused), random01);
  }

  /// A connection is ready for commands.
  void reset() noexcept { attempts_ = refusals_ = 0; }

 private:
  static constexpr std::chrono::milliseconds base{20};
  static constexpr std::chrono::milliseconds cap{2'000};
  static constexpr std::chrono::milliseconds shortest_refused{5'000};
  static constexpr std::chrono::milliseconds longest_refused{30'000};
  static constexpr int enough = 16;  // to reach each limit

  /// The number of earlier attempts, as far as it makes a difference.
  static int count(int& attempts) noexcept { return attempts < enough ? attempts++ : attempts; }

  int attempts_ = 0;
  int refusals_ = 0;
};

}  // namespace tenantry::detail
