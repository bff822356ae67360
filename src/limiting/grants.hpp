#pragma once
// Units that this process has taken ahead.

#include "limiting/limit_rules.hpp"
#include "limiting/limited_name.hpp"

#include <tenantry/rate_decision.hpp>
#include <tenantry/rate_limiter.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

namespace tenantry::detail {

/// Redis counts them from the end of their life on, so that they are within the limit whenever they are used until
/// then. Of a name as many are taken as were used the last time, or twice as many where those did not last.
///
/// Threads: all members from any thread.
class grants {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr std::size_t most_names = 10'000;

  explicit grants(const grant_options& how) : how_{how}, by_name_{most_names} {}

  [[nodiscard]] std::chrono::milliseconds life() const noexcept { return how_.life; }
  /// Nothing where there are too few.
  std::optional<decision> use(const limited_view& name, std::uint64_t cost, const limit_rules& rules, time_point now);
  /// How many units to ask for beyond what is needed now.
  std::uint64_t wanted(const limited_view& name, const limit_rules& rules, time_point now);
  /// Changes when something is forgotten. To be taken before Redis is asked.
  [[nodiscard]] std::uint64_t changes() const noexcept { return changes_.load(std::memory_order_acquire); }
  /// Units that are there in addition to those that were needed, asked for at `sent`. They are lost where `changes` are
  /// others by now: Redis may not count them any more.
  void add(const limited_view& name, std::uint64_t units, const limit_rules& rules, const limit_answer& answer,
           time_point sent, time_point received, std::uint64_t changes);
  void forget(const limited_view& name);

 private:
  struct purse {
    const limit_rules* rules = nullptr;
    std::uint64_t units = 0;
    std::uint64_t used = 0;  // of the same life
    time_point until{};
    time_point received{};
    limit_answer answer{};
  };

  const grant_options how_;
  std::mutex mutex_;
  std::atomic<std::uint64_t> changes_{0};
  recent_map<purse> by_name_;
};

}  // namespace tenantry::detail
