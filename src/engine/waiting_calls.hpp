#pragma once
// Calls that wait to be written: in order for each tenant, and the tenants in turn.

#include "engine/exchange.hpp"
#include "engine/fifo.hpp"

#include <tenantry/bounds.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tenantry::detail {

/// What one tenant's calls take up. Calls without a tenant have a share of their own that is not limited further.
struct tenant_share {
  std::string name;
  exchange* first = nullptr;
  exchange* last = nullptr;
  bool in_turn = false;  // stands in the round
  std::size_t queued = 0;
  std::size_t queued_bytes = 0;
  std::size_t in_flight = 0;
  std::size_t in_flight_bytes = 0;
};

/// Bounds are checked when a call comes in. A tenant that floods fills its own share and waits behind itself: of the
/// tenants that wait, each has one call written in turn.
class waiting_calls {
 public:
  explicit waiting_calls(const call_bounds& bounds) : bounds_{bounds} {}

  /// False when a bound is reached; the call is not taken then.
  bool push(exchange& call, bool while_down);
  /// The next call that may be written, or nullptr. It counts as in flight until `release`.
  exchange* pop();
  /// True when `pop` has a call for the asking.
  [[nodiscard]] bool can_pop() const noexcept;

  /// A call leaves the queue without being written.
  void remove(exchange& call) noexcept;
  /// Calls that were popped and not written after all go back to the front, in order.
  void put_back(std::span<exchange* const> calls);
  /// The caller of a call in flight does not wait any longer: its tenant has the room again.
  static void leave_share(exchange& call) noexcept;
  /// A call's reply came, or its connection ended.
  void release(std::size_t commands, std::size_t bytes) noexcept;

  [[nodiscard]] bool empty() const noexcept { return queued_ == 0; }
  /// Some call that waits, other than these two, or nullptr.
  [[nodiscard]] exchange* other_than(const exchange* except, const exchange* nor) const noexcept;
  [[nodiscard]] std::vector<exchange*> all() const;
  [[nodiscard]] std::size_t queued() const noexcept { return queued_; }
  [[nodiscard]] std::size_t queued_bytes() const noexcept { return queued_bytes_; }
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  [[nodiscard]] std::size_t in_flight_bytes() const noexcept { return in_flight_bytes_; }

 private:
  struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };

  tenant_share& share_of(std::string_view tenant);
  void forget_idle_shares();
  void take_turn(tenant_share& share);
  [[nodiscard]] bool has_room_in_flight(const tenant_share& share) const noexcept;

  call_bounds bounds_;
  tenant_share nobody_;
  std::unordered_map<std::string, std::unique_ptr<tenant_share>, text_hash, std::equal_to<>> shares_;
  std::size_t sweep_at_ = 1024;
  fifo<tenant_share*> turns_;  // shares that may have calls, the next one first
  std::size_t queued_ = 0;     // commands
  std::size_t queued_bytes_ = 0;
  std::size_t in_flight_ = 0;
  std::size_t in_flight_bytes_ = 0;
};

}  // namespace tenantry::detail
