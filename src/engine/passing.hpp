#pragma once
// Failures that pass by themselves.

#include <tenantry/error.hpp>

namespace tenantry::detail {

/// True where the same call may succeed later although nobody changes anything about it: Redis is away, slow or busy,
/// or takes no writes for now (a replica, no memory, no disk, too few replicas). What was refused for any other reason
/// would be refused again.
[[nodiscard]] bool passes_by_itself(const error& why) noexcept;

}  // namespace tenantry::detail
