#pragma once
// Which commands may be sent again, and what an error reply asks for.

#include <tenantry/command.hpp>

#include <chrono>
#include <string_view>

namespace tenantry::detail {

/// True for a command of Redis 7.0 or Valkey 8 that changes nothing and waits for nothing, so that it may be sent again
/// at any time. Commands that write only with some of their options (SORT, GEORADIUS, GETEX) are not reads.
[[nodiscard]] bool is_read(const command& one);

/// What to do about an error reply.
enum class reply_rule : unsigned char {
  final,                ///< give it to the caller
  retry_later,          ///< rejected for now: send the command again after `retry_delay`
  reconnect_and_retry,  ///< rejected: the server became a replica, and the address may lead elsewhere by now
};

/// What an error reply means for the connection on which it came.
enum class connection_rule : unsigned char {
  stays,
  retires,  ///< the server became a replica, or does not know the client: nothing more is sent here
  ends,     ///< it may answer no command at all
};
[[nodiscard]] connection_rule judge_connection(std::string_view error_text);

/// For a reply that came after the handshake. `error_text` is the server's line without the leading '-'.
///
/// A script or transaction may have written before it failed, and its author may have chosen the words. It is only sent
/// again after a sentence with which the server refuses a whole script before it runs.
[[nodiscard]] reply_rule judge(const command& sent, std::string_view error_text);

/// How long to wait before retry number `attempt`, counted from 0: 10 ms to a limit that doubles from 20 ms to 500 ms.
/// `random01` is in [0, 1).
[[nodiscard]] std::chrono::milliseconds retry_delay(int attempt, double random01) noexcept;

}  // namespace tenantry::detail
