#pragma once
// Decides whether a call that ended is made again. Sans-io.

#include "engine/exchange.hpp"
#include "engine/retry_budget.hpp"

#include <tenantry/client_options.hpp>
#include <tenantry/command.hpp>
#include <tenantry/reply.hpp>

#include <chrono>
#include <optional>
#include <span>

namespace tenantry::detail {

/// - Commands whose connection was lost run again when they may (`retry`), at once, and the budget allows it.
/// - A command that the server rejected for now (LOADING, TRYAGAIN, ...) is sent again after a while: it did not run.
/// - One that a replica refused is sent again a few times, for its connection is opened anew meanwhile.
/// All within the deadline. Error replies of several commands that were sent together are theirs to judge.
class retry_machine {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  retry_machine(std::span<const command> commands, retry policy, time_point deadline, retry_budget& budget) noexcept
      : commands_{commands}, policy_{policy}, deadline_{deadline}, budget_{budget} {
    budget_.earned();
  }

  /// When to make the call again, or nothing: it has ended. `random01` is in [0, 1).
  std::optional<time_point> again(const std::optional<failure>& failed, std::span<const reply> replies, time_point now,
                                  double random01);

 private:
  [[nodiscard]] bool repeatable() const;

  std::span<const command> commands_;
  retry policy_;
  time_point deadline_;
  retry_budget& budget_;
  int attempts_ = 0;  // after rejections
  int replica_refusals_ = 0;
};

}  // namespace tenantry::detail
