#pragma once
// One call on its way through a lane.

#include <tenantry/command.hpp>
#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tenantry::detail {

/// Why a call ended without its replies.
struct failure {
  errc code = errc::connection_lost;
  execution what = execution::unknown;
  std::string detail;
};

struct tenant_share;

/// Commands that are sent together, and room for their replies. Owned by its caller, whose frame it may live in:
/// nothing of it is touched after `finish`.
struct exchange {
  enum class state : unsigned char { idle, queued, staged, done, failed };

  exchange() = default;
  exchange(const exchange&) = delete;
  exchange& operator=(const exchange&) = delete;
  ~exchange() = default;

  std::span<const command> commands;
  std::span<reply> replies;  // as many as commands
  std::string_view tenant;   // whose share it takes; empty: nobody's
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  failure why;  // when failed
  bool failed = false;
  std::atomic<state> now = state::idle;

  // Of the lane, while queued or staged.
  exchange* next = nullptr;
  exchange* previous = nullptr;
  tenant_share* share = nullptr;
  std::size_t bytes = 0;
  std::uint64_t slot = 0;

  [[nodiscard]] bool settled() const noexcept {
    const state seen = now.load(std::memory_order_acquire);
    return seen == state::done || seen == state::failed;
  }
  /// The last that is done with it, once its replies or its failure are there.
  void finish() noexcept { now.store(failed ? state::failed : state::done, std::memory_order_release); }
  void become(state next_state) noexcept { now.store(next_state, std::memory_order_relaxed); }
  [[nodiscard]] bool is(state expected) const noexcept { return now.load(std::memory_order_relaxed) == expected; }
};

}  // namespace tenantry::detail
