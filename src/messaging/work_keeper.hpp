#pragma once
// Keeps what a consumer is busy with from being claimed by others.

#include "messaging/consumer_machine.hpp"
#include "messaging/log_state.hpp"

#include <tenantry/command.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

namespace tenantry::detail {

/// Renews it each third of `claim_after`, on the client's I/O thread, which the first event starts. Nothing is sent
/// while handlers are faster than that.
///
/// Threads: all members from any thread. Lifetime: until `stop`, or until the client is closed.
class work_keeper : public std::enable_shared_from_this<work_keeper> {
 public:
  work_keeper(std::shared_ptr<log_state> log, const tenant_id& tenant, std::string group, std::string consumer,
              std::chrono::milliseconds claim_after);

  void keep(const std::deque<work_ref>& given);
  void settled(const work_ref& what) noexcept;
  void stop() noexcept;

 private:
  using time_point = std::chrono::steady_clock::time_point;

  static task<void> work(std::shared_ptr<work_keeper> self);
  /// What is held since the last time.
  [[nodiscard]] std::vector<work_ref> due();
  void lost(const reply& answer, const std::vector<work_ref>& of);
  [[nodiscard]] std::vector<command> renewals(const std::vector<work_ref>& of) const;

  const std::shared_ptr<log_state> log_;
  const tenant_id tenant_;
  const std::string group_;
  const std::string consumer_;
  const std::chrono::milliseconds period_;
  std::mutex mutex_;
  bool working_ = false;
  std::vector<work_ref> held_;
  std::stop_source stopped_;
};

}  // namespace tenantry::detail
