#include "engine/fork_count.hpp"

#include <pthread.h>

namespace tenantry::detail {

namespace {

constinit std::atomic<std::uint64_t> forks = 0;

[[maybe_unused]] const bool when_loaded = (watch_forks(), true);

}  // namespace

void watch_forks() noexcept {
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
}

std::uint64_t fork_count() noexcept { return forks.load(std::memory_order_relaxed); }

}  // namespace tenantry::detail
