#pragma once
// What the faces of a rate limiter share.

#include "limiting/limit_rules.hpp"
#include "limiting/local_limits.hpp"

#include <tenantry/client.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace tenantry::detail {

/// Threads: all members from any thread.
class limiter_state {
 public:
  limiter_state(const client& redis, on_failure if_away, limit_rules rules, const limiter_options& how);

  decision decide(limit_operation what, const tenant_id& tenant, std::string_view path, std::uint64_t cost);
  task<decision> async_decide(limit_operation what, tenant_id tenant, std::string path, std::uint64_t cost);
  void reset(const tenant_id& tenant, std::string_view path);
  task<void> async_reset(tenant_id tenant, std::string path);
  void set_limits(std::vector<rate_limit> limits);
  /// As long as the limiter lives.
  [[nodiscard]] const limit_rules& rules() const noexcept { return *now_.load(std::memory_order_acquire); }

 private:
  [[nodiscard]] caller through(const tenant_id& tenant) const;
  void check_breaker() const;
  decision without_redis(const limit_rules& by, limit_operation what, const std::string& key, std::uint64_t cost,
                         const error& why);

  const client& redis_;
  const on_failure if_away_;
  const limiter_options how_;
  local_limits local_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<const limit_rules>> rules_;  // all there were: a decision may still use them
  std::atomic<const limit_rules*> now_;
};

}  // namespace tenantry::detail
