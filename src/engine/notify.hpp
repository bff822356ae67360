#pragma once
// Tells the observer.

#include <tenantry/observer.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

namespace tenantry::detail {

/// Calls the observer, if there is one, without letting out what it throws. To be called without locks held.
///
/// The fields are made in any case, so they should be at hand: one branch is all that remains without an observer.
inline void notify(const observer& told, std::string_view name, std::span<const event_field> fields) noexcept {
  if (!told) return;
  try {
    told(event{.name = name, .fields = fields});
  } catch (...) {  // as observer promises
  }
}
inline void notify(const observer& told, std::string_view name, std::initializer_list<event_field> fields) noexcept {
  notify(told, name, std::span{fields.begin(), fields.size()});
}

/// For events that come in crowds: lets one in a second pass and counts the others.
///
/// Threads: from any thread, without locks.
class once_per_second {
 public:
  /// The number of times since the last that passed, this one among them; 0 for one that does not pass.
  std::int64_t pass(std::chrono::steady_clock::time_point now) noexcept {
    held_back_.fetch_add(1, std::memory_order_relaxed);
    auto next = next_.load(std::memory_order_relaxed);
    if (now < next || !next_.compare_exchange_strong(next, now + std::chrono::seconds{1}, std::memory_order_relaxed)) {
      return 0;
    }
    return held_back_.exchange(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::chrono::steady_clock::time_point> next_ = std::chrono::steady_clock::time_point::min();
  std::atomic<std::int64_t> held_back_ = 0;
};

}  // namespace tenantry::detail
