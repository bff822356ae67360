#pragma once
// Where coroutines go on: executors, a thread pool, and how a coroutine moves itself.

#include <tenantry/export.hpp>

#include <coroutine>
#include <functional>
#include <memory>
#include <span>
#include <utility>

namespace tenantry {

/// A function that resumes each coroutine given to it exactly once, on a thread of its choice.
///
/// Any event loop can be one: `[loop = io.get_executor()](auto ready) { boost::asio::post(loop, ready); }`.
/// Called from threads of the library: it must not block or throw, and must be safe to call from several threads at a
/// time.
using executor = std::function<void(std::coroutine_handle<>)>;

namespace detail {

class pool_state;

struct run_inline {
  void operator()(std::coroutine_handle<> ready) const { ready.resume(); }
};

class resume_on_awaiter {
 public:
  explicit resume_on_awaiter(executor where) noexcept : where_{std::move(where)} {}

  // Where nothing has to move, nothing is suspended, and the stack does not grow.
  [[nodiscard]] bool await_ready() const noexcept { return where_.target<run_inline>() != nullptr; }
  // The executor leaves the frame before it is called: the coroutine may be over before the call is. Not inlined, so
  // that it does not get into the frame after all.
  [[gnu::noinline]] void await_suspend(std::coroutine_handle<> self) {
    const executor where = std::move(where_);
    where(self);
  }
  void await_resume() const noexcept {}

 private:
  executor where_;
};

}  // namespace detail

/// Resumes a coroutine at once, on the thread that completed its operation: for a client's calls the I/O thread, with
/// every other call of the client waiting meanwhile. Only for code that never blocks, and never waits for a call of the
/// same client other than by co_await; everything else belongs on a thread_pool.
[[nodiscard]] inline executor inline_executor() { return detail::run_inline{}; }

/// `co_await resume_on(where)`: the coroutine goes on there. With inline_executor() it stays where it is.
///
/// Errors: what the executor throws is thrown here, and the coroutine has not moved.
[[nodiscard]] inline detail::resume_on_awaiter resume_on(executor where) noexcept {
  return detail::resume_on_awaiter{std::move(where)};
}

/// Threads that resume coroutines: in the order given when there is one thread, without any order with more.
///
/// A coroutine that blocks holds up one thread, and no coroutine waits behind it while another thread is idle.
///
/// Not promised: fairness. A coroutine keeps its thread until it suspends. In the child of a fork a pool of the parent
/// has no threads: it resumes on the thread that calls it, at once, on its stack.
///
/// Cost: no allocation per coroutine once the queue has reached its usual length. Threads start when there is work for
///   them, with all signals blocked.
/// Errors: an exception that leaves a coroutine ends the program (std::terminate); those of a task never do.
/// Threads: all members from any thread.
class TENANTRY_EXPORT thread_pool {
 public:
  /// With at most this many threads. Errors: invalid_option for 0.
  explicit thread_pool(unsigned threads);
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  /// Resumes what was given to it, also what comes of that, then ends its threads. One of its own threads may destroy
  /// it: that one is not waited for, and ends after what it has left to do.
  ~thread_pool();

  /// Resumes all of them, as one batch: one lock, and at most one thread is woken, which wakes the next while there is
  /// more to do.
  /// Errors: std::system_error when no thread can be started, std::bad_alloc; nothing is resumed then.
  void post(std::span<const std::coroutine_handle<>> ready);
  void post(std::coroutine_handle<> ready) { post(std::span{&ready, 1}); }

  /// This pool as an executor. It may outlive the pool; from then on it resumes on the thread that calls it.
  [[nodiscard]] executor get_executor() const;

 private:
  std::shared_ptr<detail::pool_state> state_;
};

}  // namespace tenantry
