#pragma once
// The two faces of the library.

namespace tenantry::detail {

/// How something talks to Redis. A task with `blocking` never suspends: it runs on the thread that starts it.
enum class face : unsigned char { blocking, coroutine };

}  // namespace tenantry::detail
