#pragma once
// Which messages are measured. Sans-io.

#include <chrono>
#include <cstddef>

namespace tenantry::detail {

/// Reading the clock costs about as much as taking a message, so that of a flood only a part is measured. Which one
/// does not depend on when messages are taken.
class timed_messages {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::microseconds for_each_listener{10};

  /// True for a message that is measured. It has so many listeners.
  bool next(time_point received, std::size_t listeners) noexcept {
    if (received < from_) return false;
    from_ = received + for_each_listener * static_cast<std::chrono::microseconds::rep>(listeners);
    return true;
  }

 private:
  time_point from_ = time_point::min();
};

}  // namespace tenantry::detail
