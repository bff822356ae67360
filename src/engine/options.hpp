#pragma once
// What the engine asks of client_options.

#include <tenantry/client_options.hpp>

#include <chrono>
#include <string>

namespace tenantry::detail {

/// Reads the files of TLS. Errors: invalid_option, naming the field.
void check(const client_options& options);

/// Errors: invalid_option, naming the field.
void check(const call_bounds& bounds);

/// How long a connection may be silent while an answer is due, and how long written bytes may stay unacknowledged.
std::chrono::milliseconds stall_limit(const client_options& options);

/// The server's address for messages, without credentials.
std::string endpoint(const client_options& options);

}  // namespace tenantry::detail
