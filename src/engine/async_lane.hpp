#pragma once
// Drives a lane on the I/O thread, for coroutines.

#include "engine/connector.hpp"
#include "engine/io_loop.hpp"
#include "engine/lane.hpp"
#include "engine/link_state.hpp"
#include "engine/news.hpp"
#include "engine/terms.hpp"
#include "engine/timer_wheel.hpp"
#include "net/socket.hpp"

#include <tenantry/client_options.hpp>
#include <tenantry/metrics.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

namespace tenantry::detail {

class async_lane;

/// A call and the coroutine that waits for it: `auto failed = co_await async_call{...}`. Lives in that coroutine's
/// frame, which resumes where the client's executor says, or at once where the call was refused. Without commands it is
/// a pause until its deadline.
class async_call : public exchange, private timer_node {
 public:
  async_call(async_lane& through, std::span<const command> sent, std::span<reply> answers, const call_terms& terms);

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> self);
  /// Nothing, or why there are no replies.
  std::optional<failure> await_resume();

 private:
  friend class async_lane;

  struct on_stop {
    async_call* call;
    void operator()() const noexcept;
  };

  async_lane& lane_;
  std::stop_token stop_;
  bool fail_fast_;
  bool repeated_;
  resumed where_;
  bool stopped_ = false;
  std::coroutine_handle<> waiter_;
  std::optional<std::stop_callback<on_stop>> stop_callback_;
};

/// What is ready to go on, in the order in which it became so.
using resume_all = std::function<void(std::span<const std::coroutine_handle<>>)>;

class async_lane final : private io_task {
 public:
  /// `name` is a literal, for events. `losses` counts the connections that ended, before there is another one.
  /// Errors: std::system_error when the loop cannot start its thread.
  async_lane(const client_options& options, io_loop& loop, const resume_all& resume, ownership whose,
             std::string_view name, std::atomic<std::uint64_t>* losses = nullptr);
  /// When the loop does not run it any more.
  ~async_lane() override = default;
  /// What ends a lane from any thread, also the I/O thread, while the loop goes on.
  struct retire {
    void operator()(async_lane* one) const noexcept { one->loop_.retire(std::unique_ptr<io_task>{one}); }
  };

  /// False when the call ended at once, because it was refused.
  bool submit(async_call& call);
  void stop(async_call& call) noexcept;

  /// No new calls; those under way have until `deadline`, then they fail.
  void begin_close(net::clock::time_point deadline);
  /// Until all calls have ended. Not for the I/O thread.
  void wait_closed();
  /// In the child of a fork, as blocking_driver's.
  void abandon() noexcept { socket_.forget(); }
  /// False when an exclusive connection was opened and lost.
  [[nodiscard]] bool alive() const;
  [[nodiscard]] lane_metrics metrics() const;

 private:
  using lock = std::unique_lock<std::mutex>;
  using phase = link_state::phase;

  interest run(short events) noexcept override;
  [[nodiscard]] bool has_work() noexcept override;

  std::optional<failure> admit(async_call& call);
  void fail(async_call& call, failure why);
  void start_connecting(net::clock::time_point now, lock& held);
  void take_connection();
  void read(lock& held);
  void write(lock& held);
  void expire(async_call& call);
  void note_unawaited(bool staged);
  void leave_if_needed();
  [[nodiscard]] bool is_awaited() const;
  void check_close(net::clock::time_point now);
  void break_connection(const failure& why);
  void finish_complete();
  void deliver(lock& held);

  io_loop& loop_;
  const resume_all& resume_;
  const ownership whose_;
  const std::string_view name_;
  const std::chrono::milliseconds stall_limit_;
  std::atomic<std::uint64_t>* const losses_;

  mutable std::mutex mutex_;
  lane lane_;
  link_state link_;
  timer_wheel timers_;
  net::socket socket_;
  bool write_blocked_ = false;
  bool used_ = false;                // an exclusive connection was opened
  std::optional<failure> to_leave_;  // why the I/O thread has to leave the connection

  bool changed_ = false;  // since the last run
  std::vector<exchange*> complete_;
  std::vector<async_call*> pauses_;
  news news_;
  std::vector<std::coroutine_handle<>> ready_;  // to be resumed by the I/O thread
  std::vector<std::coroutine_handle<>> resuming_;
  std::vector<std::coroutine_handle<>> ready_here_;  // on it
  std::vector<std::coroutine_handle<>> resuming_here_;
  net::clock::time_point close_at_ = net::clock::time_point::max();
  bool closed_ = false;
  bool ended_ = false;
  std::condition_variable all_ended_;
  connector connector_;  // used by the I/O thread; destroyed first, because its attempt reports to the others
};

}  // namespace tenantry::detail
