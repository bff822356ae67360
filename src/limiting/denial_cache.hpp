#pragma once
// Until when Redis would deny, so that it is not asked.

#include "limiting/limit_rules.hpp"
#include "limiting/limited_name.hpp"

#include <tenantry/rate_decision.hpp>
#include <tenantry/rate_limiter.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

namespace tenantry::detail {

/// After a denial room comes back only with time, unless somebody gives units back, which `forget` is told of where it
/// happens in this process. A denial holds for requests of the same cost.
///
/// Threads: all members from any thread.
class denial_cache {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit denial_cache(const denial_cache_options& how);

  /// Changes when something of this name is forgotten. To be taken before Redis is asked.
  [[nodiscard]] std::uint64_t changes(const limited_view& name) const noexcept;
  std::optional<decision> find(const limited_view& name, limit_operation what, std::uint64_t cost,
                               const limit_rules& rules, time_point now);
  /// A denial that was asked for at `sent` and came at `received`. Nothing is kept where `changes` are others by now.
  void add(const limited_view& name, std::uint64_t cost, const limit_rules& rules, const limit_answer& answer,
           time_point sent, time_point received, std::uint64_t changes);
  void forget(const limited_view& name);
  /// Something was admitted meanwhile, so that what is known is too little: it is asked for again.
  void drop(const limited_view& name);

 private:
  struct denial {
    const limit_rules* rules = nullptr;
    std::uint64_t cost = 0;
    time_point until{};     // Redis is not asked; counted from before it was
    time_point received{};  // what the answer says is counted from here, so that waiting it out is enough
    limit_answer answer{};
  };
  struct denials {
    std::array<denial, 2> of{};  // different costs; the next one replaces the one that ends first
  };
  struct alignas(64) shard {
    std::mutex mutex;
    std::atomic<std::uint64_t> changes{0};
    std::optional<recent_map<denials>> by_name;
  };

  static constexpr std::size_t shard_count = 16;
  [[nodiscard]] shard& shard_of(const limited_view& name) const noexcept {
    return shards_[name.hash() / 1024 % shard_count];
  }

  std::chrono::milliseconds max_age_;
  mutable std::array<shard, shard_count> shards_;
};

}  // namespace tenantry::detail
