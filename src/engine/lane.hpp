#pragma once
// The sans-io half of a connection: commands go in, bytes come out; bytes go in, replies are matched to commands.

#include "engine/exchange.hpp"
#include "engine/fifo.hpp"
#include "engine/lane_counters.hpp"
#include "engine/waiting_calls.hpp"
#include "resp/reply_reader.hpp"

#include <tenantry/bounds.hpp>
#include <tenantry/reply.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// Commands and replies of one connection after another.
///
/// - Replies match commands strictly first in, first out. From being staged on, a command keeps its place until its
///   reply came or the connection ended, also when its caller has gone (a tombstone).
/// - A reply that no command waits for, or bytes that are not RESP2, are errors that end the connection.
/// - When the connection ends, commands of which a byte was written end `unknown`; the others go on the next one.
/// - A server that says that it is a replica now, or that the connection is not authenticated, retires the connection:
///   what is on the way is answered, the rest goes on the next one.
///
/// No socket, no clock, no thread: the driver tells what happened. `room` and `parse` touch nothing else, so they may
/// run beside the other members.
class lane {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  lane(const reply_limits& limits, const call_bounds& bounds) : limits_{limits}, waiting_{bounds} {}

  /// False when a bound is reached; the call stays its caller's then.
  bool enqueue(exchange& call);

  /// A connection is ready for commands.
  void connected(time_point now);

  /// True when there is something to write.
  [[nodiscard]] bool has_output() const noexcept {
    return written_ < output_.size() || (online_ && !retired_ && waiting_.can_pop());
  }
  /// What to write next. Stays valid until `wrote` or `ended`, also while calls are enqueued or abandoned.
  [[nodiscard]] std::string_view output();
  void wrote(std::size_t size, time_point now) noexcept;

  /// Where to put received bytes.
  [[nodiscard]] std::span<char> room() { return reader_->room(); }
  /// The first `size` bytes of `room()` are filled.
  void parse(std::size_t size) noexcept;
  /// Matches what was parsed. Calls that have all their replies are added to `complete`, and are the driver's to
  /// finish. Returns the reason when the connection has to end.
  std::optional<failure> match(time_point now, std::vector<exchange*>& complete);

  /// The caller does not wait any longer. Tells whether the command may run.
  execution abandon(exchange& call) noexcept;

  /// The connection ended. Written calls get their failure and are added to `complete`.
  void ended(const failure& why, std::vector<exchange*>& complete);
  /// The calls that wait and for which `concerns` holds fail with execution::not_sent.
  template <class Concerns>
  void refuse(const failure& why, std::vector<exchange*>& complete, Concerns concerns) {
    for (exchange* call : waiting_.all()) {
      if (!concerns(*call)) continue;
      waiting_.remove(*call);
      fail(*call, why, execution::not_sent, complete);
    }
  }

  /// When the connection has to be taken for dead: the oldest command was written, nothing came for `limit` since, and
  /// its caller's deadline is over as well.
  [[nodiscard]] time_point stalled_at(std::chrono::milliseconds limit) const noexcept;

  [[nodiscard]] bool online() const noexcept { return online_; }
  /// True when nothing is on the way.
  [[nodiscard]] bool idle() const noexcept { return in_flight_.empty() && waiting_.empty(); }
  /// Commands that wait to be written.
  [[nodiscard]] std::size_t queued() const noexcept { return waiting_.queued(); }
  /// True when replies are expected, if only for tombstones.
  [[nodiscard]] bool expects_replies() const noexcept { return !in_flight_.empty(); }
  /// True when the connection is retired and nothing is on the way any more: the driver has to end it.
  [[nodiscard]] bool drained() const noexcept { return retired_ && in_flight_.empty() && written_ == output_.size(); }
  /// Somebody who still waits, other than these two, or nullptr.
  [[nodiscard]] exchange* somebody(const exchange* except = nullptr, const exchange* nor = nullptr) const noexcept;

  /// What the driver has to count itself.
  [[nodiscard]] lane_metrics& counters() noexcept { return counters_.totals; }
  void count_timeout(bool staged) noexcept;
  [[nodiscard]] lane_metrics metrics(std::string_view name) const { return counters_.snapshot(name, waiting_); }

 private:
  struct slot {
    exchange* owner = nullptr;  // nullptr: a tombstone
    std::size_t total = 0;
    std::size_t answered = 0;
    std::size_t bytes = 0;
    std::uint64_t begin = 0;  // position of its first byte in the connection's output
    time_point written{};     // when the latest of its bytes was
    time_point deadline{};    // its caller's
  };

  static constexpr std::size_t batch = 64U << 10U;

  void stage();
  void judge(std::string_view error, time_point now, std::optional<failure>& defect);
  static void fail(exchange& call, const failure& why, execution what, std::vector<exchange*>& complete);

  reply_limits limits_;
  waiting_calls waiting_;
  lane_counters counters_;
  bool online_ = false;
  bool retired_ = false;
  time_point connected_at_{};
  time_point received_at_{};

  fifo<slot> in_flight_;
  std::uint64_t first_slot_ = 0;  // number of the oldest slot in flight
  std::size_t stamped_ = 0;       // slots, from the oldest, whose last byte was written
  std::string output_;
  std::size_t written_ = 0;         // bytes of output_
  std::uint64_t output_begin_ = 0;  // position of output_ in the connection's output

  std::optional<resp::reply_reader> reader_;
  std::size_t received_bytes_ = 0;  // since the last match
  std::vector<reply> parsed_;
  std::optional<failure> defect_;
};

}  // namespace tenantry::detail
