#pragma once
// How much may wait in a client before it refuses more.

#include <cstddef>

namespace tenantry {

/// The most that one connection's commands may take up. A call beyond it fails at once with errc::overloaded and
/// execution::not_sent, so that neither memory nor waiting time grows without end. One call that alone exceeds a bound
/// is let through when nothing else waits.
struct call_bounds {
  std::size_t in_flight = 4096;  ///< commands written and not answered; more wait in the queue
  std::size_t in_flight_bytes = 64U << 20U;
  std::size_t queued = 8192;  ///< commands that wait to be written
  std::size_t queued_bytes = 64U << 20U;
  std::size_t queued_while_down = 1024;  ///< the same without a connection
  std::size_t queued_bytes_while_down = 8U << 20U;
  std::size_t exclusive_connections = 64;  ///< at a time
  /// The part of each bound that the calls of one tenant may take (`call_options::tenant`), above 0 and at most 1.
  double tenant_share = 0.25;
};

}  // namespace tenantry
