#pragma once
// The client: one object per Redis and program, shared by all its threads.

#include <tenantry/client_options.hpp>
#include <tenantry/command.hpp>
#include <tenantry/exclusive_connection.hpp>
#include <tenantry/export.hpp>
#include <tenantry/metrics.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/script.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenantry {

namespace detail {
class engine;
struct seam;
}  // namespace detail

/// The calls of a client under fixed options. A client is the caller with its own defaults; `with` makes others.
///
/// Every call is one round trip unless it says otherwise, has one deadline for everything it waits for, and completes
/// exactly once. A command whose first byte was written is sent again only as `call_options::retry` says; one that the
/// server rejected for now (LOADING, TRYAGAIN, READONLY, ...) did not run and is sent again within the
/// deadline, unless that says never.
///
/// Errors, all calls: connection_error, timeout_error and server_error, each with the `execution()` of the command;
///   refused_command for what would break the connection for other callers (SELECT, SUBSCRIBE, MULTI, BLPOP, ...): see
///   client::exclusive.
/// Threads: safe on one object from many threads; their commands share a connection and are pipelined.
/// Lifetime: a caller must not outlive its client.
class TENANTRY_EXPORT caller {
 public:
  /// Sends one command and waits for its reply. An error reply throws server_error.
  ///
  ///     redis.execute("SET", k, value, "PX", 300'000);
  template <class... Args>
  reply execute(std::string_view name, const Args&... args) const {
    return execute(command{name, args...});
  }
  reply execute(const command& one) const;

  /// Sends all commands in one write and returns their replies in order. An error reply is a value here
  /// (`reply::is_error`); the others still count. Not atomic: commands of other callers may run in between.
  std::vector<reply> execute_all(std::span<const command> commands) const;
  std::vector<reply> execute_all(std::initializer_list<command> commands) const {
    return execute_all(std::span{commands.begin(), commands.size()});
  }

  /// Runs a script. KEYS and ARGV are its keys and arguments.
  ///
  /// Cost: one round trip; two when the server does not have the script yet (EVALSHA, then EVAL once on NOSCRIPT).
  /// Atomic: yes, a script runs alone.
  reply eval(const script& what, std::span<const std::string_view> keys,
             std::span<const std::string_view> arguments = {}) const;
  reply eval(const script& what, std::initializer_list<std::string_view> keys,
             std::initializer_list<std::string_view> arguments = {}) const {
    return eval(what, std::span{keys.begin(), keys.size()}, std::span{arguments.begin(), arguments.size()});
  }

  /// The same for coroutines: `reply r = co_await redis.async_execute("GET", k.str());`. The command is encoded before
  /// this returns, the deadline begins when it is awaited, and the coroutine goes on where `client_options::executor`
  /// says. A call without coroutines is `start(redis.async_execute(...), callback)`.
  ///
  /// Lifetime: the client must not be destroyed before the task has ended. The script has to live as long.
  template <class... Args>
  task<reply> async_execute(std::string_view name, const Args&... args) const {
    return async_execute(command{name, args...});
  }
  task<reply> async_execute(command one) const;
  task<std::vector<reply>> async_execute_all(std::vector<command> commands) const;
  task<reply> async_eval(const script& what, std::vector<std::string> keys,
                         std::vector<std::string> arguments = {}) const;

 protected:
  caller(detail::engine& engine, call_options options) : engine_{&engine}, options_{std::move(options)} {}

 private:
  friend class client;
  friend struct detail::seam;
  detail::engine* engine_;
  call_options options_;
};

/// One Redis server, for the whole program: blocking calls share a connection, and coroutines another one. They are
/// opened by the first call and again after they were lost, with pauses that grow from 20 ms to 2 s while that fails.
///
///     tenantry::client redis{"redis://localhost:6379/0"};
///     redis.execute("SET", "greeting", "hello");
///
/// Not promised: that a command runs exactly once. When the connection is lost, or a deadline passes, after a command
/// was written, it ends with execution::unknown and is not repeated, unless `call_options::retry` allows it. Order
/// between calls that are under way at the same time, other than those of coroutines for the same tenant on one lane.
///
/// Threads: all members from any thread. Blocking calls run on the caller's thread. The first asynchronous call starts
/// an
///   I/O thread and the default executor; a host name is resolved in a thread of its own.
/// Lifetime: destroying it is `close` without waiting; no other thread may be about to call it, and the thread must not
///   be its I/O thread (an inline executor). After a fork, calls of the child fail (errc::forked); it may destroy the
///   client.
class TENANTRY_EXPORT client : public caller {
 public:
  /// Errors: invalid_option. Does not connect yet, so a program can start before its Redis.
  explicit client(std::string_view url);
  explicit client(client_options options);
  client(const client&) = delete;
  client& operator=(const client&) = delete;
  ~client();

  /// The same client under other options: `auto fast = redis.with({.timeout = 50ms}); fast.execute(...)`. For
  /// coroutines always a statement of its own: GCC 12 destroys some temporaries of a co_await expression twice.
  [[nodiscard]] caller with(call_options options) const;

  /// A connection of its own, for what cannot be shared: BLPOP, XREAD BLOCK, WAIT, WATCH and MULTI.
  /// Errors: connection_error (overloaded) when `call_bounds::exclusive_connections` are in use.
  [[nodiscard]] exclusive_connection exclusive() const;
  /// The same for coroutines. Starts the I/O thread. Errors: also std::system_error when it cannot be started.
  [[nodiscard]] async_exclusive_connection async_exclusive() const;

  /// What was counted until now; in the child of a fork nothing, and no lanes. Cost: no round trip; some microseconds.
  [[nodiscard]] client_metrics metrics() const;

  /// Refuses new calls (errc::closed), waits up to `drain` for those under way, then ends the rest: not_sent or
  /// unknown. Idempotent, from any thread. On the I/O thread it returns without waiting, and all calls end as said.
  void close(std::chrono::milliseconds drain = std::chrono::seconds{5});

 private:
  explicit client(std::unique_ptr<detail::engine> engine);

  std::unique_ptr<detail::engine> owned_;
};

}  // namespace tenantry
