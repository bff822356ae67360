#include "engine/fork_count.hpp"

#include <atomic>
#include <pthread.h>

namespace tenantry::detail {

namespace {

std::atomic<std::uint64_t> forks = 0;

}  // namespace

std::uint64_t fork_count() noexcept {
  // Where registering fails for lack of memory, a fork is not noticed.
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  return forks.load(std::memory_order_relaxed);
}

}  // namespace tenantry::detail
