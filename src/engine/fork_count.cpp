#include "engine/fork_count.hpp"

#include <pthread.h>

namespace tenantry::detail {

namespace {

constinit std::atomic<std::uint64_t> forks = 0;

// When the library is loaded. Where it fails for lack of memory, a fork is not noticed.
[[maybe_unused]] const int registered =
    ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

std::uint64_t fork_count() noexcept { return forks.load(std::memory_order_relaxed); }

}  // namespace tenantry::detail
