#pragma once
// What the faces of a rate limiter share.

#include "limiting/acquisition.hpp"
#include "limiting/limit_rules.hpp"
#include "limiting/limited_name.hpp"
#include "limiting/local_limits.hpp"
#include "limiting/wait_lines.hpp"

#include <tenantry/client.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace tenantry::detail {

/// Threads: all members from any thread.
class limiter_state {
 public:
  limiter_state(const client& redis, on_failure if_away, limit_rules rules, const limiter_options& how);

  decision acquire(const tenant_id& tenant, std::string_view path, std::uint64_t cost);
  task<decision> async_acquire(tenant_id tenant, std::string path, std::uint64_t cost);
  /// Asks Redis, for this caller alone.
  decision ask(limit_operation what, const tenant_id& tenant, std::string_view path, std::uint64_t cost);
  task<decision> async_ask(limit_operation what, tenant_id tenant, std::string path, std::uint64_t cost);
  decision wait(const tenant_id& tenant, std::string_view path, std::chrono::milliseconds at_most, std::uint64_t cost,
                const std::stop_token& stop);
  task<decision> async_wait(tenant_id tenant, std::string path, std::chrono::milliseconds at_most, std::uint64_t cost,
                            std::stop_token stop);
  void reset(const tenant_id& tenant, std::string_view path);
  task<void> async_reset(tenant_id tenant, std::string path);
  void set_limits(std::vector<rate_limit> limits);
  /// As long as the limiter lives.
  [[nodiscard]] const limit_rules& rules() const noexcept { return *now_.load(std::memory_order_acquire); }
  [[nodiscard]] limiter_counters counters() const noexcept;
  /// True in the child of a fork. The client may be gone.
  [[nodiscard]] bool forked() const noexcept;

 private:
  using clock = std::chrono::steady_clock;

  [[nodiscard]] caller through(const tenant_id& tenant, clock::time_point deadline) const;
  /// What is decided in the child of a fork, without a lock; nothing elsewhere.
  std::optional<decision> in_child(limit_operation what, std::uint64_t units);
  [[nodiscard]] decision uncounted(limit_operation what, std::uint64_t cost, std::shared_ptr<const error> why) const;
  decision without_redis(const limit_rules& by, limit_operation what, const limited_view& name, std::uint64_t cost,
                         std::shared_ptr<const error> why);
  std::optional<decision> known(limit_operation what, const limited_view& name, std::uint64_t cost,
                                const limit_rules& by);
  decision told(limit_operation what, const limited_view& name, std::uint64_t cost, const limit_rules& by,
                const reply& from, clock::time_point sent, std::uint64_t changes);
  decision end_of(const acquisition& mine, const limited_view& name, std::uint64_t cost, const limit_rules& by);
  decision count(decision made) noexcept;

  const client& redis_;
  const on_failure if_away_;
  const limiter_options how_;
  const std::uint64_t forks_;
  limiter_memory memory_;
  local_limits local_;
  wait_lines lines_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<const limit_rules>> rules_;  // all there were: a decision may still use them
  std::atomic<const limit_rules*> now_;
  struct alignas(64) counts {
    std::atomic<std::uint64_t> allowed{0};
    std::atomic<std::uint64_t> denied{0};
  };
  std::array<counts, 6> counts_;  // by source
};

}  // namespace tenantry::detail
