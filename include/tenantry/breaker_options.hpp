#pragma once
// When a client stops asking a server that fails.

#include <chrono>
#include <cstdint>

namespace tenantry {

/// The circuit breaker of a client. A call fails when Redis is at fault: it cannot be reached, loses the connection, is
/// not ready, or does not answer in time. An error reply such as WRONGTYPE is an answer, and so a success.
struct breaker_options {
  /// Failures in a row that open the breaker; at least 1.
  std::uint32_t consecutive_failures = 5;
  /// The share of failed calls in the last 10 s that opens the breaker: above 0, at most 1.
  double failure_ratio = 0.5;
  /// Fewer calls than this in the last 10 s say nothing about the share; at least 1.
  std::uint32_t min_calls = 20;
  /// How long the breaker stays open before one call may probe the server. It doubles with each probe that fails; the
  /// actual time is from half of it to all of it, at random. At least 1 ms.
  std::chrono::milliseconds open_for = std::chrono::milliseconds{500};
  /// What the doubling ends at; at least `open_for`, at most an hour.
  std::chrono::milliseconds longest_open_for = std::chrono::seconds{10};
  /// When the outcome of a probe has not come by then, another call may probe. At least 1 ms, at most an hour.
  std::chrono::milliseconds probe_timeout = std::chrono::seconds{2};
};

}  // namespace tenantry
