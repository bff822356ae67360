#pragma once
// What keeps an entry of a near cache in memory while somebody looks at it.

#include <atomic>
#include <utility>

namespace tenantry::detail {

/// One of the slots (hazard pointers) that say which entries are in use: what stands in a slot is not destroyed. The
/// slot belongs to the thread that took it, and may be given back by any other.
class near_pin {
 public:
  using slot = std::atomic<const void*>;

  near_pin() noexcept = default;
  /// Of a slot that its thread has taken and set.
  explicit near_pin(slot* taken) noexcept : slot_{taken} {}
  near_pin(near_pin&& from) noexcept : slot_{std::exchange(from.slot_, nullptr)} {}
  near_pin& operator=(near_pin&& from) noexcept {
    std::swap(slot_, from.slot_);
    return *this;
  }
  ~near_pin() {
    if (slot_ != nullptr) slot_->store(nullptr, std::memory_order_release);
  }

  explicit operator bool() const noexcept { return slot_ != nullptr; }

 private:
  slot* slot_ = nullptr;
};

}  // namespace tenantry::detail
