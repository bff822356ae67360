#pragma once
// What a call may take (time, room and patience), and what it may expect of its connection.

#include "net/wait.hpp"

#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string_view>

namespace tenantry::detail {

inline constexpr auto forever = net::clock::time_point::max();

/// Where a coroutine goes on: where the client's executor says, which may run it when the client is gone; or on the I/O
/// thread, for short work that is the library's own and that no caller waits for. `close` waits for the first only:
/// after an idle wait nothing is sent.
enum class resumed : unsigned char { by_executor, by_executor_from_idle, by_io_thread };

/// What commands of the library may do that callers' may not: change what the server tracks for the connection. They
/// go on lanes only whose end is noticed at once.
enum class traffic : unsigned char { plain, tracked };

struct call_terms {
  net::clock::time_point deadline = forever;
  std::stop_token stop = {};
  std::string_view tenant = {};  // outlives the call
  bool fail_fast = false;        // without a connection
  bool repeated = false;         // was made before
  resumed where = resumed::by_executor;
};

/// Whether the callers share the connection, or one has it for itself: then its state (WATCH, MULTI) is lost with it,
/// so it is not opened again, and an answer that nobody waits for any longer ends it.
enum class ownership : unsigned char { shared, exclusive };

/// `no_timeout` and its like have no representation in the clock's unit, so they are compared in the coarser one.
inline net::clock::time_point after(net::clock::time_point now, std::chrono::milliseconds span) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(net::clock::time_point::max() - now);
  return span >= left ? forever : now + span;
}

inline std::int64_t milliseconds(net::clock::duration span) noexcept {
  return std::chrono::duration_cast<std::chrono::milliseconds>(span).count();
}

}  // namespace tenantry::detail
