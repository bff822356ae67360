#pragma once
// Opens a connection: name, address, handshake, in this order and under one deadline.

#include "engine/lane.hpp"
#include "net/resolver.hpp"
#include "net/socket.hpp"

#include <tenantry/client.hpp>

#include <optional>
#include <span>

namespace tenantry::detail {

/// How an attempt ended: a connection, a failure of the server or the way to it, or given up by the caller.
struct connect_result {
  net::socket socket;               // when neither of the others
  std::optional<failure> failed;    // always not_sent
  net::ready how = net::ready::io;  // woken or deadline: given up before anything was decided
};

/// Connects and introduces itself. A reply that arrives beyond the handshake's own is a protocol error.
connect_result connect(const client_options& options, net::resolver& names, net::clock::time_point deadline,
                       std::span<const int> wakeups);

}  // namespace tenantry::detail
