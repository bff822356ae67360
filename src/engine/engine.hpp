#pragma once
// Everything that a client consists of, put together.

#include "engine/async_lane.hpp"
#include "engine/blocking_driver.hpp"
#include "engine/breaker.hpp"
#include "engine/exclusive_lane.hpp"
#include "engine/exclusive_pool.hpp"
#include "engine/fork_safe_list.hpp"
#include "engine/hang_up_watch.hpp"
#include "engine/io_loop.hpp"
#include "engine/notify.hpp"
#include "engine/opened_later.hpp"
#include "engine/push_connection.hpp"
#include "engine/retry_budget.hpp"
#include "engine/retry_machine.hpp"
#include "engine/shared_parts.hpp"
#include "engine/terms.hpp"

#include <tenantry/client_options.hpp>
#include <tenantry/command.hpp>
#include <tenantry/exclusive_connection.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/metrics.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/task.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>

namespace tenantry::detail {

/// The lanes are opened by the first call that needs them: for threads and for coroutines, and of each a second one for
/// bulk values. A program of one style has one connection until it moves bulk values.
///
/// Threads: all members from any thread.
class engine {
 public:
  explicit engine(client_options options);
  ~engine();
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;

  [[nodiscard]] net::clock::time_point deadline_of(const call_options& how) const;

  /// Sends the commands and waits for as many replies, retries included. Errors: as `caller` says; error replies are
  /// values.
  void run(std::span<const command> commands, std::span<reply> replies, const call_options& how,
           net::clock::time_point deadline, traffic what = traffic::plain);
  /// The same for coroutines; `commands` and `replies` are a command and a reply, whose error throws, or vectors of
  /// them. Without a deadline it is that of the options, from the moment on at which the task starts.
  template <class Commands, class Replies>
  task<Replies> async_run(Commands commands, Replies replies, call_options how,
                          std::optional<net::clock::time_point> deadline, resumed where = resumed::by_executor,
                          traffic what = traffic::plain);

  /// From now on the end of a connection on which tracked commands go is noticed at once, also while nobody uses it.
  /// Errors: std::system_error when the I/O thread cannot be started.
  void watch_lanes();
  /// How many of them have ended so far.
  [[nodiscard]] const std::atomic<std::uint64_t>& lost_connections() const noexcept { return losses_; }

  /// Until then, or until the token is triggered. False when the client was closed, and in the child of a fork.
  task<bool> async_pause(net::clock::time_point until, std::stop_token stop, resumed where = resumed::by_executor);

  /// Errors: refused_command, invalid_option, and connection_error (forked).
  void check(std::span<const command> commands, ownership whose, traffic what = traffic::plain) const;

  /// Errors: connection_error (closed, forked).
  void check_open() const;
  /// Before anything that takes a lock: those of the parent may be held for ever. Errors: connection_error (forked).
  void check_not_forked() const;

  /// A connection for one caller alone. Errors: connection_error (overloaded, closed, forked).
  exclusive_connection take_exclusive();
  async_exclusive_connection take_async_exclusive();
  void give_back(std::shared_ptr<blocking_driver> connection, const transaction_state& state) noexcept;
  void give_back(exclusive_lane& connection) noexcept;
  /// Errors: as `exclusive_connection` says; error replies are values.
  void run_exclusive(blocking_driver& connection, std::span<const command> commands, std::span<reply> replies,
                     const call_options& how);
  /// The same for coroutines, with commands and replies as those of `async_run`.
  template <class Commands, class Replies>
  task<Replies> async_run_exclusive(std::shared_ptr<exclusive_lane> on, Commands commands, Replies replies,
                                    call_options how);

  void close(std::chrono::milliseconds drain);
  /// In the child of a fork: leaves everything as it is, but closes the descriptors.
  void abandon() noexcept;
  [[nodiscard]] bool forked() const noexcept;
  [[nodiscard]] bool closed() const noexcept { return closed_; }

  /// In the child of a fork without lanes, and of a breaker that never opened.
  [[nodiscard]] client_metrics metrics() const;
  [[nodiscard]] const client_options& options() const noexcept { return options_; }
  [[nodiscard]] const std::string& endpoint() const noexcept { return endpoint_; }
  [[nodiscard]] breaker& circuit_breaker() noexcept { return breaker_; }
  [[nodiscard]] io_loop& loop() noexcept { return loop_; }
  [[nodiscard]] shared_parts& parts() noexcept { return parts_; }
  /// Those of the patterns, for `abandon`.
  [[nodiscard]] fork_safe_list<push_connection>& push_connections() noexcept { return push_connections_; }
  [[nodiscard]] const resume_all& resume() const noexcept { return resume_; }

  /// Throws what a failure is to the caller of these commands.
  [[noreturn]] void raise(const failure& why, std::span<const command> commands) const;

 private:
  class visit;

  /// Ends, on the I/O thread, what a `close` on that thread must not wait for.
  class late_close final : public io_task {
   public:
    explicit late_close(engine& of) noexcept : of_{of} {}
    void at(net::clock::time_point deadline);
    interest run(short events) noexcept override;
    [[nodiscard]] bool has_work() noexcept override { return false; }

   private:
    engine& of_;
    std::once_flag added_;
    net::clock::time_point deadline_ = forever;  // of the I/O thread
  };

  [[nodiscard]] call_terms terms_of(const call_options& how, net::clock::time_point deadline) const;
  blocking_driver& blocking_lane(std::span<const command> commands, lane_choice choice, traffic what);
  async_lane& coroutine_lane(std::span<const command> commands, lane_choice choice, traffic what = traffic::plain);
  /// `openings` are those of the breaker before the call.
  void count(const std::optional<failure>& failed, net::clock::time_point now, std::uint64_t openings);
  /// Calls `what` with each part that has connections.
  template <class What>
  void for_each_part(What what);

  const client_options options_;
  const std::string endpoint_;
  const std::uint64_t fork_count_;
  retry_budget budget_;
  breaker breaker_;
  std::atomic<bool> closed_ = false;
  std::atomic<net::clock::time_point> close_at_ = forever;  // then
  std::atomic<int> calls_ = 0;                              // blocking ones, until they have left
  once_per_second overloads_;
  std::atomic<std::uint64_t> losses_ = 0;  // of connections of the lanes for tracked commands

  opened_later<thread_pool> pool_;
  resume_all resume_;
  fork_safe_list<push_connection> push_connections_;
  io_loop loop_;
  blocking_driver blocking_;
  opened_later<hang_up_watch> watch_;
  opened_later<blocking_driver> bulk_;
  opened_later<async_lane> async_;
  opened_later<async_lane> async_bulk_;
  exclusive_count exclusive_count_;
  shared_parts parts_;
  exclusive_pool<blocking_driver> exclusive_;
  exclusive_pool<async_lane> async_exclusive_;
  late_close late_close_{*this};
};

}  // namespace tenantry::detail
