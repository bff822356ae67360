#pragma once
// Opens a connection: name, address, TLS, handshake, in this order and under one deadline.

#include "engine/exchange.hpp"
#include "net/resolver.hpp"
#include "net/socket.hpp"

#include <tenantry/client_options.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace tenantry::detail {

/// How an attempt ended: a connection, a failure of the server or the way to it, or given up by the caller.
struct connect_result {
  net::socket socket;               // when neither of the others
  std::optional<failure> failed;    // always not_sent
  net::ready how = net::ready::io;  // woken or deadline: given up before anything was decided
  std::int64_t client_id = 0;       // the connection's number on the server
  std::string waited_for;           // given up: what did not come, where that tells more than "a connection"
};

/// Connects and introduces itself. A reply that arrives beyond the handshake's own is a protocol error.
connect_result connect(const client_options& options, net::resolver& names, net::clock::time_point deadline,
                       std::span<const int> wakeups);

}  // namespace tenantry::detail
