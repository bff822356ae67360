#pragma once
// All that the pattern families may use of the engine beyond the client's public face.

#include "engine/breaker.hpp"
#include "engine/push_connection.hpp"

#include <tenantry/client.hpp>

#include <memory>

namespace tenantry::detail {

struct seam {
  /// One for all patterns of a client: it counts the outcome of every call, and patterns ask it before they make one.
  static breaker& circuit_breaker(const caller& of) noexcept;

  /// A connection of its own to the same server, on the client's I/O thread, which it starts.
  /// Errors: std::system_error when no thread can be started.
  /// Lifetime: must not outlive the client.
  static std::unique_ptr<push_connection> open_push_connection(const caller& of, const push_options& how,
                                                               push_connection::listener told);
};

}  // namespace tenantry::detail
