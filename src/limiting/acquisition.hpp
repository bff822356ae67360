#pragma once
// How one request gets its decision from Redis, alone or together with others.

#include "limiting/denial_cache.hpp"
#include "limiting/grants.hpp"
#include "limiting/limit_calls.hpp"
#include "limiting/limit_rules.hpp"
#include "limiting/limited_name.hpp"

#include <tenantry/error.hpp>
#include <tenantry/rate_decision.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

namespace tenantry::detail {

/// What a process remembers beside Redis.
struct limiter_memory {
  std::optional<denial_cache> denials;
  std::optional<grants> ahead;
  limit_calls together;

  /// What is known of this name may not hold any longer.
  void forget_denials(const limited_view& name) {
    if (denials) denials->forget(name);
  }
  void forget(const limited_view& name) {
    forget_denials(name);
    if (ahead) ahead->forget(name);
  }
};

/// A machine: asks nobody and has no clock. Its driver does what `next` says until it is done.
class acquisition {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  enum class step : unsigned char { ask, wait, done };

  /// `name` and `rules` live as long as it does.
  acquisition(limiter_memory& memory, const limited_view& name, std::uint64_t cost, const limit_rules& rules);
  acquisition(const acquisition&) = delete;
  acquisition& operator=(const acquisition&) = delete;
  ~acquisition();

  /// From `deadline` on it does not wait any more, nor when the client is closed.
  step next(time_point now, time_point deadline, bool closed = false);

  /// To ask Redis: with this, and then one of the next two.
  limit_question question(time_point now);
  void answered(const limit_answer& answer, time_point received);
  void failed(const error& why, time_point received);

  /// To wait: until this is no longer in the state of waiting.
  [[nodiscard]] limit_calls::request& request() noexcept { return mine_; }

  /// When it is done. Nothing where Redis did not decide, and why.
  [[nodiscard]] std::optional<decision> result(time_point now) const;
  [[nodiscard]] std::shared_ptr<const error> failure() const;

 private:
  void settle(const limit_answer* answer, std::shared_ptr<const error> failure, time_point received);

  limiter_memory& memory_;
  const limited_view name_;
  const std::uint64_t cost_;
  const limit_rules& rules_;
  limit_calls::request mine_;
  // As the one who asks.
  std::uint64_t asked_for_ = 0;  // requests, without those for later
  time_point sent_{};
  std::uint64_t denials_changes_ = 0;
  std::uint64_t ahead_changes_ = 0;
  bool settled_ = false;
  std::optional<limit_answer> answer_;
  std::shared_ptr<const error> failure_;
  time_point received_{};
};

}  // namespace tenantry::detail
