#pragma once
// Events handed to a function, instead of being taken.

#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <sys/types.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <utility>

namespace tenantry {

/// Calls a function with each event of a subscription or a follower, one after another, on an executor, until the last
/// one or `stop`. Destroying it stops it.
///
///     feed_loop loop{sub.subscribe<alarm>(alarms(acme)), pool.get_executor(), [](auto& event) { std::visit(...,
///     event); }};
///
/// What the function throws is given to `on_error`, and the next event follows. A function that is slow only holds up
/// its own events: they wait in the queue of the subscription, with what that does when it is full.
///
/// Threads: all members from any thread, also from the function.
/// Lifetime: the client must outlive it. The function and what it uses must live until `stop` returns; from within the
///           function: until the function returns.
template <class Feed>
class feed_loop {
 public:
  using event = std::remove_reference_t<decltype(*std::declval<Feed&>().next())>;
  using handler = std::function<void(event&)>;
  using error_handler = std::function<void(const std::exception_ptr&)>;

  feed_loop(Feed feed, executor where, handler on_event, error_handler on_error = {})
      : shared_{std::make_shared<shared>(std::move(feed), std::move(where), std::move(on_event), std::move(on_error))} {
    start(run(shared_), [](const std::exception_ptr&) {});
  }
  feed_loop(const feed_loop&) = delete;
  feed_loop& operator=(const feed_loop&) = delete;
  ~feed_loop() { stop(); }

  /// When it returns the function does not run and is not called any more. Called by the function itself, it returns at
  /// once, and this holds when the function has returned. Idempotent.
  void stop() noexcept {
    if (shared_->process != ::getpid()) return;  // the child of a fork, where nothing runs that could end
    shared_->stop.request_stop();
    std::unique_lock held{shared_->mutex};
    shared_->stopped = true;
    if (shared_->runner == std::this_thread::get_id()) return;
    shared_->idle.wait(held, [this] { return shared_->runner == std::thread::id{}; });
  }

  /// How often the function threw.
  [[nodiscard]] std::uint64_t errors() const noexcept { return shared_->errors.load(std::memory_order_relaxed); }

 private:
  struct shared {
    shared(Feed of, executor on, handler call, error_handler tell)
        : feed{std::move(of)}, where{std::move(on)}, on_event{std::move(call)}, on_error{std::move(tell)} {}
    Feed feed;
    executor where;
    handler on_event;
    error_handler on_error;
    std::stop_source stop;
    std::atomic<std::uint64_t> errors{0};
    const pid_t process = ::getpid();
    std::mutex mutex;
    std::condition_variable idle;
    bool stopped = false;
    std::thread::id runner;  // of the function, while it runs
  };

  static task<void> run(std::shared_ptr<shared> on) {
    for (;;) {
      auto waiting = on->feed.async_next(on->stop.get_token());
      std::optional<event> next = co_await std::move(waiting);
      if (!next) co_return;
      co_await resume_on(on->where);
      {
        const std::lock_guard held{on->mutex};
        if (on->stopped) co_return;
        on->runner = std::this_thread::get_id();
      }
      call(*on, *next);
      {
        const std::lock_guard held{on->mutex};
        on->runner = {};
        on->idle.notify_all();
      }
    }
  }

  static void call(shared& on, event& what) noexcept {
    try {
      on.on_event(what);
    } catch (...) {
      on.errors.fetch_add(1, std::memory_order_relaxed);
      tell(on, std::current_exception());
    }
  }
  static void tell(shared& on, const std::exception_ptr& why) noexcept {
    if (!on.on_error) return;
    try {
      on.on_error(why);
    } catch (...) {  // as with an observer
    }
  }

  std::shared_ptr<shared> shared_;
};

}  // namespace tenantry
