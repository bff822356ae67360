#pragma once
// What a client counts. Plain values, taken at one moment.

#include <tenantry/export.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace tenantry {

/// How long something took, over many times, with 8 buckets for each doubling from 1 us to 60 s.
struct TENANTRY_EXPORT histogram {
  struct bucket {
    std::chrono::nanoseconds upper{};  ///< the longest duration in it; the last has nanoseconds::max()
    std::uint64_t count = 0;           ///< of this bucket alone, not of those before it
  };

  std::uint64_t count = 0;
  std::chrono::nanoseconds sum{};
  std::chrono::nanoseconds max{};
  std::vector<bucket> buckets = {};  ///< ascending; always the same bounds, also where nothing was counted

  /// The duration that a share `q` of all did not exceed: 0.5 is the median, 0.99 the 99th percentile. At most an
  /// eighth above the true one, and never above `max`. Zero when nothing was counted.
  [[nodiscard]] std::chrono::nanoseconds quantile(double q) const noexcept;

  /// How many took at most `upper`, to the resolution of the buckets: what Prometheus wants for `le`.
  [[nodiscard]] std::uint64_t count_within(std::chrono::nanoseconds upper) const noexcept;
};

/// One connection to the server and the queue in front of it. Counters never fall while their client lives.
struct lane_metrics {
  std::string name = {};

  // Now.
  std::uint64_t queued = 0;           ///< commands that wait to be written
  std::uint64_t queued_bytes = 0;     ///< and their size
  std::uint64_t in_flight = 0;        ///< commands written whose reply has not come, tombstones among them
  std::uint64_t in_flight_bytes = 0;  ///< and their size

  // Since the client was made.
  std::uint64_t commands = 0;             ///< accepted
  std::uint64_t replies = 0;              ///< received, late ones among them
  std::uint64_t bytes_sent = 0;           ///< encoded commands, before TLS
  std::uint64_t bytes_received = 0;       ///< replies, after TLS
  std::uint64_t writes = 0;               ///< system calls that sent
  std::uint64_t reads = 0;                ///< system calls that received
  std::uint64_t connects = 0;             ///< connections that became ready for commands
  std::uint64_t connection_losses = 0;    ///< and ended, other than by `close`
  std::uint64_t connect_failures = 0;     ///< attempts that did not get that far
  std::uint64_t retries = 0;              ///< commands written again
  std::uint64_t overloaded = 0;           ///< commands refused because a bound was reached
  std::uint64_t tombstones = 0;           ///< written commands whose caller stopped waiting
  std::uint64_t late_replies = 0;         ///< replies to those
  std::uint64_t timeouts_queued = 0;      ///< deadlines that passed before the command was written
  std::uint64_t timeouts_connecting = 0;  ///< while there was no connection
  std::uint64_t timeouts_unanswered = 0;  ///< after it was written
  std::uint64_t cancelled = 0;            ///< calls that their stop_token ended

  histogram round_trip = {};  ///< from written to answered
};

/// A client as a whole.
struct client_metrics {
  std::vector<lane_metrics> lanes = {};
  std::string breaker = "closed";      ///< or "open" or "half_open"
  std::uint64_t breaker_openings = 0;  ///< since the client was made
};

}  // namespace tenantry
