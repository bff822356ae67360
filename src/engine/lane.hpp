#pragma once
// The sans-io half of a connection: commands go in, bytes come out; bytes go in, replies are matched to commands.

#include "engine/fifo.hpp"
#include "resp/reply_reader.hpp"

#include <tenantry/command.hpp>
#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// Why a call ended without its replies.
struct failure {
  errc code = errc::connection_lost;
  execution what = execution::unknown;
  std::string detail;
};

/// One call under way: commands that are sent together, and room for their replies. Owned by its caller, whose frame it
/// may live in: the lane forgets it when it settles or is abandoned.
struct exchange {
  enum class state : unsigned char { queued, staged, done, failed };

  std::span<const command> commands;
  std::span<reply> replies;  // as many as commands
  state now = state::queued;
  failure why;  // when failed

  [[nodiscard]] bool settled() const noexcept { return now == state::done || now == state::failed; }
};

/// Commands and replies of one connection after another.
///
/// - Replies match commands strictly first in, first out. From being staged on, a command keeps its place until its
///   reply came or the connection ended, also when its caller has gone (a tombstone).
/// - A reply that no command waits for, or bytes that are not RESP2, are errors that end the connection.
/// - When the connection ends, commands of which a byte was written end `unknown`; the others go on the next one.
///
/// No socket, no clock, no thread: the driver tells what happened.
class lane {
 public:
  explicit lane(const reply_limits& limits) : limits_{limits} {}

  void enqueue(exchange& call);

  /// A connection is ready for commands.
  void connected() { reader_.emplace(limits_); }

  /// True when there is something to write.
  [[nodiscard]] bool has_output() const noexcept { return written_ < output_.size() || !queued_.empty(); }
  /// What to write next. Stays valid until `wrote` or `ended`, also while calls are enqueued or abandoned.
  [[nodiscard]] std::string_view output();
  void wrote(std::size_t size) noexcept;

  /// Where to put received bytes; untouched by all but `received` and `ended`.
  [[nodiscard]] std::span<char> room() { return reader_->room(); }
  /// The first `size` bytes of `room()` are filled. Calls that are complete now are added to `settled`.
  /// Errors: connection_error (protocol); the driver has to end the connection.
  void received(std::size_t size, std::vector<exchange*>& settled);

  /// The caller does not wait any longer. Tells whether the command may run.
  execution abandon(exchange& call);

  /// The connection ended. Written calls fail with execution::unknown and are added to `settled`.
  void ended(const failure& why, std::vector<exchange*>& settled);
  /// No connection can be had: the calls that wait for one fail with execution::not_sent.
  void unreachable(const failure& why, std::vector<exchange*>& settled);

  /// True when nothing is on the way.
  [[nodiscard]] bool idle() const noexcept { return in_flight_.empty() && !has_output(); }
  /// True when replies are expected, if only for tombstones.
  [[nodiscard]] bool expects_replies() const noexcept { return !in_flight_.empty(); }
  /// Somebody who still waits, other than `except`, or nullptr.
  [[nodiscard]] exchange* somebody(const exchange* except = nullptr) const noexcept;

 private:
  struct slot {
    exchange* owner = nullptr;  // nullptr: a tombstone
    std::size_t total = 0;
    std::size_t answered = 0;
    std::uint64_t begin = 0;  // position of its first byte in the connection's output
  };

  static constexpr std::size_t batch = 64U << 10U;

  void stage();
  static void fail(exchange& call, const failure& why, execution what, std::vector<exchange*>& settled);

  reply_limits limits_;
  fifo<exchange*> queued_;
  fifo<slot> in_flight_;
  std::string output_;
  std::size_t written_ = 0;         // bytes of output_
  std::uint64_t output_begin_ = 0;  // position of output_ in the connection's output
  std::optional<resp::reply_reader> reader_;
};

}  // namespace tenantry::detail
