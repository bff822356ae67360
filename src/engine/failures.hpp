#pragma once
// The failures that both drivers report, in the same words.

#include "engine/exchange.hpp"
#include "engine/link_state.hpp"
#include "net/socket.hpp"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace tenantry::detail {

[[nodiscard]] failure closed_before();  ///< the call came after `close`
[[nodiscard]] failure closed_under_way();
[[nodiscard]] failure forked_since();
failure exclusive_lost();
failure exclusive_given_back();
failure exclusive_busy();
failure answer_not_awaited();
[[nodiscard]] failure all_exclusive_taken(std::size_t most);
[[nodiscard]] failure cancelled(execution what);
[[nodiscard]] failure overloaded(std::string_view tenant);
[[nodiscard]] failure not_connected_within(std::chrono::milliseconds limit, std::string_view waited_for);
[[nodiscard]] failure lost_because(std::string why);
/// Receiving or sending ended the connection.
[[nodiscard]] failure lost_in(const net::socket& connection, const net::transfer& what);
[[nodiscard]] failure stalled(std::chrono::milliseconds limit);

/// The deadline passed. Without a connection the reason is what keeps it away, as far as that is known.
[[nodiscard]] failure expired(const link_state& link, bool staged, execution what);

}  // namespace tenantry::detail
