#pragma once
// A log: where it is, and how it is written and read.

#include "engine/seam.hpp"
#include "messaging/log_page.hpp"
#include "messaging/log_reads.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/detail/log_core.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// Threads: all members from any thread.
class log_state {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  log_state(const client& redis, log_core::channel_of where, const event_log_options& how);
  log_state(const log_state&) = delete;
  log_state& operator=(const log_state&) = delete;
  ~log_state();

  [[nodiscard]] const client& redis() const noexcept { return redis_; }
  /// True in the child of a fork. The client may be gone.
  [[nodiscard]] bool forked() const noexcept { return fork_count() != forks_; }
  /// The key of the stream.
  [[nodiscard]] std::string name(const tenant_id& tenant) const;
  /// So many events, or fewer, so that one reply holds them however large they are.
  [[nodiscard]] std::size_t fitting(std::size_t events) const noexcept {
    return std::clamp<std::size_t>(reply_size / how_.max_payload, 1, events);
  }
  [[nodiscard]] std::chrono::milliseconds timeout() const noexcept { return how_.timeout; }
  /// Where followers of this tenant listen.
  [[nodiscard]] channel live_channel(const tenant_id& tenant) const;

  [[nodiscard]] std::string append(const tenant_id& tenant, std::string_view event, std::string_view once) const;
  [[nodiscard]] task<std::string> async_append(tenant_id tenant, std::string event, std::string once) const;
  /// A page that was asked for after this call began, in a read that may be shared with others who ask the same.
  /// Nothing where the token was triggered, or while it waits for others the time has come.
  [[nodiscard]] shared_page read(const tenant_id& tenant, std::uint64_t from, std::uint64_t count,
                                 time_point limit = time_point::max(), const std::stop_token& stop = {}) const;
  [[nodiscard]] task<shared_page> async_read(tenant_id tenant, std::uint64_t from, std::uint64_t count,
                                             time_point limit = time_point::max(), std::stop_token stop = {}) const;

 private:
  static constexpr std::size_t reply_size = 16U << 20U;
  struct call {
    std::vector<std::string> keys;
    std::vector<std::string> arguments;
  };
  [[nodiscard]] call appending(const tenant_id& tenant, std::string_view event, std::string_view once) const;
  [[nodiscard]] call reading(const tenant_id& tenant, std::uint64_t from, std::uint64_t count) const;
  [[nodiscard]] caller reader(const tenant_id& tenant, time_point deadline, const std::stop_token& stop) const;
  [[nodiscard]] std::string appended(const tenant_id& tenant, const reply& answer, std::size_t bytes) const;

  const client& redis_;
  const log_core::channel_of where_;
  const event_log_options how_;
  const std::uint64_t forks_ = fork_count();
  std::unique_ptr<log_reads> together_ = std::make_unique<log_reads>();
};

}  // namespace tenantry::detail
