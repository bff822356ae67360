#pragma once
// Which commands would break a connection that many callers share.

#include <tenantry/command.hpp>

namespace tenantry::detail {

/// Errors: error (refused_command, not_sent) for commands that change the state of the connection, hold it up, or
/// answer with more or fewer than one reply.
void check_shareable(const command& one);

}  // namespace tenantry::detail
