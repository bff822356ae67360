#pragma once
// Coroutines that do one thing and end with a result: what every async call returns.

#include <tenantry/export.hpp>

#include <atomic>
#include <concepts>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace tenantry {

template <class T = void>
class task;

namespace detail {

/// Whoever waits for a task.
class task_waiter {
 public:
  task_waiter(const task_waiter&) = delete;
  task_waiter& operator=(const task_waiter&) = delete;

  /// Called at the end of a task, unless it ended while it was being started, on the thread where it ended. The waiter,
  /// and with it the task, may be gone when this returns.
  virtual void one_ended() noexcept = 0;

 protected:
  task_waiter() noexcept = default;
  ~task_waiter() = default;
};

/// A thread that is starting a task. A task that ends meanwhile on the same thread only leaves word here, so that no
/// stack is built up by tasks that end at once; one that ends on another thread goes on there.
struct task_start {
  const void* promise = nullptr;
  task_start* outer = nullptr;
  bool ended = false;
};

/// The innermost start of this thread, or nullptr. One variable for all shared libraries of a program.
TENANTRY_EXPORT task_start*& innermost_start() noexcept;

/// The end of a task. Not inlined, as the other handovers of this file: nothing that the compiler would keep in the
/// frame may be used after another thread was allowed to go on with it (Clang 16 does that to inlined code).
struct task_end {
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  template <class Promise>
  [[gnu::noinline]] void await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
    Promise& promise = ended.promise();
    task_start* const here = innermost_start();
    // Both, because addresses are used again.
    if (here != nullptr && here->promise == &promise && promise.started_by == here) {
      here->ended = true;
    } else {
      promise.waiter->one_ended();
    }
  }
  void await_resume() const noexcept {}
};

struct task_promise_base {
  [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
  [[nodiscard]] task_end final_suspend() const noexcept { return {}; }
  void unhandled_exception() noexcept { fault = std::current_exception(); }

  task_waiter* waiter = nullptr;           // set when started
  const task_start* started_by = nullptr;  // may be over
  std::exception_ptr fault;
};

template <class T>
struct task_promise : task_promise_base {
  task<T> get_return_object() noexcept;
  template <std::convertible_to<T> From = T>
  void return_value(From&& result) {
    value.emplace(std::forward<From>(result));
  }
  T take() {
    if (fault) std::rethrow_exception(std::move(fault));
    return std::move(*value);
  }

  std::optional<T> value;
};

template <>
struct task_promise<void> : task_promise_base {
  inline task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
  void take() {
    if (fault) std::rethrow_exception(std::move(fault));
  }
};

struct task_access {
  template <class T>
  static task_promise<T>& promise(const task<T>& of) noexcept {
    return of.frame_.promise();
  }
  /// Runs a task until it first waits for something. True when it ended by then, and the waiter is not called;
  /// otherwise the waiter may be gone already.
  template <class T>
  [[nodiscard]] static bool start(const task<T>& what, task_waiter& waiter) noexcept {
    if (!what.frame_ || what.frame_.promise().waiter != nullptr) std::terminate();  // moved away, or started before
    auto& promise = what.frame_.promise();
    task_start here{.promise = &promise, .outer = innermost_start()};
    promise.waiter = &waiter;
    promise.started_by = &here;
    innermost_start() = &here;
    what.frame_.resume();
    innermost_start() = here.outer;
    return here.ended;
  }
};

/// `co_await` of one task.
template <class T>
class task_awaiter final : task_waiter {
 public:
  explicit task_awaiter(const task<T>& what) noexcept : what_{&what} {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> parent) noexcept {
    parent_ = parent;
    return !task_access::start(*what_, *this);
  }
  T await_resume() { return task_access::promise(*what_).take(); }

 private:
  void one_ended() noexcept override { parent_.resume(); }

  const task<T>* what_;
  std::coroutine_handle<> parent_;
};

/// Waits until all tasks have ended, and leaves their results where they are. It counts them and itself: the last one
/// to come goes on.
template <class T>
class all_awaiter final : task_waiter {
 public:
  explicit all_awaiter(const std::vector<task<T>>& all) noexcept : all_{&all}, left_{all.size() + 1} {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> parent) noexcept {
    parent_ = parent;
    std::size_t ended = 1;  // itself
    for (const task<T>& each : *all_) ended += task_access::start(each, *this) ? 1 : 0;
    return left_.fetch_sub(ended, std::memory_order_acq_rel) != ended;
  }
  void await_resume() const noexcept {}

 private:
  void one_ended() noexcept override {
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) parent_.resume();
  }

  const std::vector<task<T>>* all_;
  std::atomic<std::size_t> left_;
  std::coroutine_handle<> parent_;
};

/// A thread that waits for a task. It is only notified while the mutex is held, and not touched afterwards: its frame
/// may be gone.
class thread_waiter final : task_waiter {
 public:
  template <class T>
  void run(const task<T>& what) {
    if (task_access::start(what, *this)) return;
    std::unique_lock held{mutex_};
    wake_.wait(held, [this] { return ended_; });
  }

 private:
  void one_ended() noexcept override {
    const std::lock_guard held{mutex_};
    ended_ = true;
    wake_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool ended_ = false;
};

/// A task that nobody waits for, and the function that gets its result. Deletes itself.
template <class T, class F>
class callback_waiter final : task_waiter {
 public:
  callback_waiter(task<T> what, F on_done) : what_{std::move(what)}, on_done_{std::move(on_done)} {}

  void run() noexcept {
    if (task_access::start(what_, *this)) one_ended();
  }

 private:
  void one_ended() noexcept override {
    auto& promise = task_access::promise(what_);
    std::exception_ptr fault = std::move(promise.fault);  // NOLINT(misc-const-correctness): moved on, if F takes it so
    F on_done = std::move(on_done_);
    if constexpr (std::is_void_v<T>) {
      delete this;
      on_done(std::move(fault));
    } else {
      std::optional<T> value;
      if (!fault) value = std::move(promise.value);
      delete this;
      on_done(std::move(fault), std::move(value));
    }
  }

  task<T> what_;
  F on_done_;
};

template <class F, class T>
struct takes_result : std::bool_constant<std::invocable<F&, std::exception_ptr, std::optional<T>>> {};
template <class F>
struct takes_result<F, void> : std::bool_constant<std::invocable<F&, std::exception_ptr>> {};

}  // namespace detail

/// A coroutine that runs when it is awaited, once, and gives a T or an exception to the one who awaits it.
///
///     task<int> twice(task<int> of) { co_return 2 * co_await std::move(of); }
///
/// T may be void, move-only or not default constructible, but no reference. The coroutine starts on the thread that
/// awaits it; the awaiting one goes on where the task ended.
///
/// Not promised: where a coroutine runs after it waited for something; use `resume_on` to choose. Tasks cannot be
/// cancelled by destroying them.
///
/// Cost: one allocation, the coroutine's frame. The stack does not grow with the number of awaits, whether they end at
/// once or later, but with how deeply tasks await each other.
/// Threads: a task is used by one thread at a time.
/// Lifetime: destroying a task that was never started destroys its frame and what it holds. A task that was started
///   must have ended before it is destroyed, and can be awaited only once; anything else ends the program
///   (std::terminate).
template <class T>
class [[nodiscard]] task {
  static_assert(!std::is_reference_v<T>, "a task gives a value; use a pointer to give a reference");

 public:
  using promise_type = detail::task_promise<T>;

  task(task&& from) noexcept : frame_{std::exchange(from.frame_, nullptr)} {}
  task& operator=(task&& from) noexcept {
    task old{std::move(from)};
    std::swap(frame_, old.frame_);
    return *this;
  }
  task(const task&) = delete;
  task& operator=(const task&) = delete;
  ~task() {
    if (!frame_) return;
    if (frame_.promise().waiter != nullptr && !frame_.done()) std::terminate();
    frame_.destroy();
  }

  /// `co_await make()` or `co_await std::move(t)`. In the second form the frame lives as long as `t`.
  auto operator co_await() && noexcept { return detail::task_awaiter<T>{*this}; }

 private:
  friend promise_type;
  friend detail::task_access;
  explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_{frame} {}

  std::coroutine_handle<promise_type> frame_;
};

/// Runs a task and blocks until it has ended. Rethrows what it threw.
///
/// Not for threads that have to do something for the task to end, such as those of its executor: they would wait for
/// themselves.
template <class T>
T sync_wait(task<T> what) {
  detail::thread_waiter{}.run(what);
  return detail::task_access::promise(what).take();
}

/// Runs a task without a coroutine to await it: callbacks, and bridges to other libraries.
///
///     start(redis.async_execute("GET", k), [](std::exception_ptr fault, std::optional<reply> value) { ... });
///
/// `on_done` gets either an exception or, unless T is void, a value. It is called exactly once, where the task ended:
/// possibly before `start` returns. By then the task's frame is gone. It must not throw, nor may moving it or a T then:
/// that ends the program (std::terminate).
/// Errors: std::bad_alloc; the task was not started then, and on_done is not called.
template <class T, class F>
  requires(detail::takes_result<F, T>::value)
void start(task<T> what, F on_done) {
  auto self = std::make_unique<detail::callback_waiter<T, F>>(std::move(what), std::move(on_done));
  self.release()->run();
}

/// Starts all tasks in order, each when the one before first waited for something, and ends when all have ended: with
/// all results in the same order, or with the exception of the first one in this order that threw. It goes on where the
/// last one ended, or where they were started if all had ended by then.
template <class T>
task<std::vector<T>> when_all(std::vector<task<T>> all) {
  co_await detail::all_awaiter<T>{all};
  std::vector<T> results;
  results.reserve(all.size());
  for (task<T>& each : all) results.push_back(detail::task_access::promise(each).take());
  co_return results;
}
inline task<void> when_all(std::vector<task<void>> all) {
  co_await detail::all_awaiter<void>{all};
  for (task<void>& each : all) detail::task_access::promise(each).take();
}

namespace detail {

template <class T>
task<T> task_promise<T>::get_return_object() noexcept {
  return task<T>{std::coroutine_handle<task_promise>::from_promise(*this)};
}
task<void> task_promise<void>::get_return_object() noexcept {
  return task<void>{std::coroutine_handle<task_promise>::from_promise(*this)};
}

}  // namespace detail

}  // namespace tenantry
