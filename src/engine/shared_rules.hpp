#pragma once
// Which commands would break a connection for its other users.

#include <tenantry/command.hpp>
#include <tenantry/exclusive_connection.hpp>
#include <tenantry/reply.hpp>

namespace tenantry::detail {

/// Errors: error (refused_command, not_sent) for commands that change the state of the connection, hold it up, or
/// answer with more or fewer than one reply.
void check_shareable(const command& one);

/// The same for a connection that its users have one after another: those that hold it up are allowed.
void check_reusable(const command& one);

/// What a command, and its reply, do to the state that a connection must not be given back with.
void note_opening(const command& one, transaction_state& state);
void note_end(const command& one, const reply& answer, transaction_state& state);

}  // namespace tenantry::detail
