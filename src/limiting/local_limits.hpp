#pragma once
// Limits that one process keeps for itself while Redis is away.

#include "limiting/limit_rules.hpp"
#include "limiting/limited_name.hpp"

#include <tenantry/rate_decision.hpp>
#include <tenantry/rate_limiter.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

namespace tenantry::detail {

/// Exact, by the times of the units admitted here in the last window. Of the names
/// the least recently used are forgotten when there are more than `most_names`.
///
/// Threads: all members from any thread.
class local_limits {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr std::size_t most_names = 100'000;

  /// Of each limit the share of one of so many instances, but at least 1, where it is not 0.
  [[nodiscard]] static std::vector<rate_limit> share_of(const std::vector<rate_limit>& limits, unsigned instances);

  decision decide(limit_operation what, const limited_view& name, std::uint64_t cost,
                  const std::vector<rate_limit>& limits, time_point now);
  void forget(const limited_view& name);

 private:
  /// Units admitted at the same time, the newest last.
  struct admitted {
    time_point at{};
    std::uint64_t units = 0;
  };
  std::mutex mutex_;
  recent_map<std::deque<admitted>> by_name_{most_names};
};

}  // namespace tenantry::detail
