#pragma once
// What the engine asks of client_options.

#include <tenantry/client.hpp>

#include <string>

namespace tenantry::detail {

/// Errors: invalid_option, naming the field.
void check(const client_options& options);

/// The server's address for messages, without credentials.
std::string endpoint(const client_options& options);

}  // namespace tenantry::detail
