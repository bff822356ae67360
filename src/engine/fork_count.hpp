#pragma once
// Whether this process is the child of a fork.

#include <cstdint>

namespace tenantry::detail {

/// How many forks led to this process, since the library was loaded. Costs one memory read.
[[nodiscard]] std::uint64_t fork_count() noexcept;

}  // namespace tenantry::detail
