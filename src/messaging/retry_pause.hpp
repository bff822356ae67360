#pragma once
// While Redis does not answer.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace tenantry::detail {

/// Before Redis is asked again.
inline constexpr std::chrono::milliseconds pause_after_failure{100};

/// The pause of a thread; shorter where it would last longer than until `limit`, or where the token is triggered.
inline void pause_thread(std::chrono::steady_clock::time_point limit, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any pause;
  std::unique_lock held{mutex};
  pause.wait_until(held, stop, std::min(limit, std::chrono::steady_clock::now() + pause_after_failure),
                   [] { return false; });
}

}  // namespace tenantry::detail
