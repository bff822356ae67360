#pragma once
// A connection for one caller alone: a thread or a coroutine.

#include <tenantry/client_options.hpp>
#include <tenantry/command.hpp>
#include <tenantry/export.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace tenantry {

namespace detail {
class blocking_driver;
class engine;
struct exclusive_lane;

/// What the next user of a connection must not inherit.
struct transaction_state {
  bool watching = false;
  bool open = false;  // MULTI

  bool operator==(const transaction_state&) const = default;
};
}  // namespace detail

/// For commands that block (BLPOP, XREAD BLOCK, WAIT) and for WATCH, MULTI, EXEC, whose state belongs to a connection.
///
///     tenantry::exclusive_connection own = redis.exclusive();
///     auto job = own.execute_for(30s, "BLPOP", jobs.str(), 25);
///
/// It is opened by its first call and never again: when it is lost, or a call ends before its reply has come (deadline,
/// stop_token), all later calls fail with connection_lost and not_sent. Nothing is retried. Destroying it gives the
/// connection back for the next `exclusive()`, or closes it while a WATCH or MULTI is open.
///
/// Refused all the same (refused_command): what the next user would inherit or what breaks the order of replies:
///   SELECT, AUTH, SUBSCRIBE, MONITOR, CLIENT REPLY, RESET, ...
/// Errors: as `caller`.
/// Threads: one at a time.
/// Lifetime: must not outlive its client.
class TENANTRY_EXPORT exclusive_connection {
 public:
  exclusive_connection(exclusive_connection&& from) noexcept;
  exclusive_connection& operator=(exclusive_connection&& from) noexcept;
  ~exclusive_connection();

  /// Under the client's own deadline. A command that blocks on the server needs a longer one: see `execute_for`.
  template <class... Args>
  reply execute(std::string_view name, const Args&... args) {
    return execute(command{name, args...});
  }
  reply execute(const command& one, const call_options& how = {});

  /// Waits at most `timeout` for the reply; no_timeout: for ever. Give the server less, so that it answers first.
  template <class... Args>
  reply execute_for(std::chrono::milliseconds timeout, std::string_view name, const Args&... args) {
    return execute(command{name, args...}, {.timeout = timeout});
  }

  /// In one write; error replies are values. MULTI, ..., EXEC this way is one round trip.
  std::vector<reply> execute_all(std::span<const command> commands, const call_options& how = {});
  std::vector<reply> execute_all(std::initializer_list<command> commands, const call_options& how = {}) {
    return execute_all(std::span{commands.begin(), commands.size()}, how);
  }

 private:
  friend class detail::engine;
  exclusive_connection(detail::engine& engine, std::shared_ptr<detail::blocking_driver> connection) noexcept;

  void run(std::span<const command> commands, std::span<reply> replies, const call_options& how);
  void give_back() noexcept;

  detail::engine* engine_;
  std::shared_ptr<detail::blocking_driver> connection_;
  detail::transaction_state state_;
};

/// The same for coroutines. Waiting for a list costs a connection, but no thread.
///
///     tenantry::async_exclusive_connection own = redis.async_exclusive();
///     const tenantry::reply job = co_await own.async_execute_for(30s, "BLPOP", jobs.str(), 25);
///
/// All that is said of `exclusive_connection` holds. One call at a time: another one meanwhile is refused
/// (refused_command). Destroying it during a call ends the call (errc::closed) and the connection.
///
/// Threads: one at a time.
/// Lifetime: must not outlive its client, and the client not be destroyed before its tasks have ended.
class TENANTRY_EXPORT async_exclusive_connection {
 public:
  async_exclusive_connection(async_exclusive_connection&& from) noexcept;
  async_exclusive_connection& operator=(async_exclusive_connection&& from) noexcept;
  ~async_exclusive_connection();

  /// Under the client's own deadline. A command that blocks on the server needs a longer one: see `async_execute_for`.
  template <class... Args>
  task<reply> async_execute(std::string_view name, const Args&... args) {
    return async_execute(command{name, args...});
  }
  task<reply> async_execute(command one);
  /// `how` is copied. With GCC 12 it has to have a name: see docs/async.md.
  task<reply> async_execute(command one, const call_options& how);

  /// Waits at most `timeout` for the reply; no_timeout: for ever. Give the server less, so that it answers first.
  template <class... Args>
  task<reply> async_execute_for(std::chrono::milliseconds timeout, std::string_view name, const Args&... args) {
    return async_execute(command{name, args...}, {.timeout = timeout});
  }

  /// In one write; error replies are values. MULTI, ..., EXEC this way is one round trip.
  task<std::vector<reply>> async_execute_all(std::vector<command> commands);
  task<std::vector<reply>> async_execute_all(std::vector<command> commands, const call_options& how);

 private:
  friend class detail::engine;
  async_exclusive_connection(detail::engine& engine, std::shared_ptr<detail::exclusive_lane> lane) noexcept;

  void give_back() noexcept;

  detail::engine* engine_;
  std::shared_ptr<detail::exclusive_lane> lane_;
};

}  // namespace tenantry
