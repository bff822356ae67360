#pragma once
// A lane that one coroutine at a time has for itself.

#include "engine/async_lane.hpp"

#include <tenantry/exclusive_connection.hpp>

#include <atomic>
#include <memory>

namespace tenantry::detail {

/// What an async_exclusive_connection and its tasks share: a task may begin after the connection was given back.
struct exclusive_lane {
  enum class use : unsigned char { idle, busy, given_back };

  std::shared_ptr<async_lane> lane;
  transaction_state state = {};
  std::atomic<use> now = use::idle;
};

/// A call of it, from its beginning to its end.
class exclusive_use {
 public:
  /// See `began` before using it.
  explicit exclusive_use(exclusive_lane& on) noexcept : on_{on} {
    mine_ = on.now.compare_exchange_strong(before_, exclusive_lane::use::busy, std::memory_order_acquire);
  }
  exclusive_use(const exclusive_use&) = delete;
  exclusive_use& operator=(const exclusive_use&) = delete;
  ~exclusive_use() {
    auto mine = exclusive_lane::use::busy;
    if (mine_) on_.now.compare_exchange_strong(mine, exclusive_lane::use::idle, std::memory_order_release);
  }

  /// False when it is not this call's turn, because of what the lane was `before`.
  [[nodiscard]] bool began() const noexcept { return mine_; }
  [[nodiscard]] exclusive_lane::use before() const noexcept { return before_; }

 private:
  exclusive_lane& on_;
  exclusive_lane::use before_ = exclusive_lane::use::idle;
  bool mine_;
};

}  // namespace tenantry::detail
