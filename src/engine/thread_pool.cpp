#include "engine/fork_count.hpp"

#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <pthread.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace tenantry {

namespace detail {

/// The queue and the threads. Owned by the pool, its executors and the threads.
///
/// A thread takes the whole queue at once, runs it without the mutex, and idle threads take halves of what others have
/// left. While there is something to take and a thread sleeps, help is coming: one thread is on its way, and the others
/// are left in peace; when it has got its share and there is more, it calls the next.
class pool_state : public std::enable_shared_from_this<pool_state> {
 public:
  explicit pool_state(unsigned threads) : limit_{threads} {
    watch_forks();
    workers_.reserve(threads);
    sleeping_.reserve(threads);
  }

  void post(std::span<const std::coroutine_handle<>> ready);
  void close();
  /// True in the child of a fork, which has none of the threads.
  [[nodiscard]] bool forked() const noexcept { return fork_count() != forks_; }

 private:
  /// `taken` changes only with the mutex held, and only when all of it is claimed. Its thread claims without the mutex,
  /// others with it.
  struct alignas(64) worker {
    std::atomic<std::size_t> claimed = 0;  // may exceed the size
    std::vector<std::coroutine_handle<>> taken;
    std::condition_variable wake;
    bool woken = false;
    std::thread thread;

    [[nodiscard]] std::size_t left() const noexcept {
      return taken.size() - std::min(claimed.load(std::memory_order_relaxed), taken.size());
    }
    void take_half_of(worker& other) noexcept;
  };

  void start_worker();
  [[nodiscard]] worker* call_help() noexcept;
  [[nodiscard]] bool take(worker& mine) noexcept;
  [[nodiscard]] bool something_left(const worker& mine) const noexcept;
  void run(worker& mine) noexcept;

  const std::size_t limit_;
  const std::uint64_t forks_ = fork_count();
  std::mutex mutex_;
  std::vector<std::coroutine_handle<>> queue_;
  std::vector<std::unique_ptr<worker>> workers_;
  std::vector<worker*> sleeping_;  // who went to sleep last is woken first
  std::size_t alive_ = 0;
  bool help_is_coming_ = false;
  bool closed_ = false;
};

void pool_state::post(std::span<const std::coroutine_handle<>> ready) {
  if (ready.empty()) return;
  if (forked()) {
    for (const auto each : ready) each.resume();
    return;
  }
  worker* called = nullptr;
  {
    std::unique_lock held{mutex_};
    if (alive_ == 0 && closed_) {
      held.unlock();
      for (const auto each : ready) each.resume();
      return;
    }
    if (alive_ == 0) start_worker();
    queue_.insert(queue_.end(), ready.begin(), ready.end());
    called = call_help();
  }
  if (called != nullptr) called->wake.notify_one();
}

void pool_state::close() {
  {
    const std::lock_guard held{mutex_};
    closed_ = true;
    for (worker* each : sleeping_) {
      each->woken = true;
      each->wake.notify_one();
    }
    sleeping_.clear();
  }
  for (const auto& each : workers_) {  // no longer changes
    if (each->thread.get_id() == std::this_thread::get_id()) {
      each->thread.detach();
    } else {
      each->thread.join();
    }
  }
}

void pool_state::start_worker() {
  auto added = std::make_unique<worker>();
  added->taken.reserve(64);
  // The threads must not take signals that the program expects elsewhere; they inherit the mask set here.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    added->thread = std::thread{[self = shared_from_this(), mine = added.get()] { self->run(*mine); }};
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  workers_.push_back(std::move(added));
  ++alive_;
  help_is_coming_ = true;
}

/// Returns the thread to notify, which is best done without the mutex.
pool_state::worker* pool_state::call_help() noexcept {
  if (help_is_coming_) return nullptr;
  if (!sleeping_.empty()) {
    worker* const called = sleeping_.back();
    sleeping_.pop_back();
    called->woken = true;
    help_is_coming_ = true;
    return called;
  }
  if (!closed_ && workers_.size() < limit_) {
    try {
      start_worker();
    } catch (...) {  // NOLINT(bugprone-empty-catch): the threads that there are do the work
    }
  }
  return nullptr;
}

void pool_state::worker::take_half_of(worker& other) noexcept {
  const std::size_t wanted = std::min((other.left() + 1) / 2, taken.capacity());
  const std::size_t begin = other.claimed.fetch_add(wanted, std::memory_order_relaxed);
  const std::size_t end = std::min(begin + wanted, other.taken.size());
  for (std::size_t i = begin; i < end; ++i) taken.push_back(other.taken[i]);
}

bool pool_state::take(worker& mine) noexcept {
  mine.taken.clear();
  if (!queue_.empty()) {
    mine.taken.swap(queue_);
  } else {
    for (const auto& other : workers_) {
      if (!mine.taken.empty()) break;
      if (other->left() != 0) mine.take_half_of(*other);
    }
  }
  mine.claimed.store(0, std::memory_order_relaxed);
  return !mine.taken.empty();
}

/// Beside the one that `mine` runs next.
bool pool_state::something_left(const worker& mine) const noexcept {
  return std::any_of(workers_.begin(), workers_.end(),
                     [&mine](const auto& each) { return each->left() > (each.get() == &mine ? 1U : 0U); });
}

void pool_state::run(worker& mine) noexcept {
  std::unique_lock held{mutex_};
  bool helping = true;  // it was started, or woken, to take a share
  for (;;) {
    const bool found = take(mine);
    if (std::exchange(helping, false)) {
      help_is_coming_ = false;
      worker* const next = found && something_left(mine) ? call_help() : nullptr;
      if (next != nullptr) next->wake.notify_one();
    }
    if (found) {
      held.unlock();
      for (;;) {
        const std::size_t next = mine.claimed.fetch_add(1, std::memory_order_relaxed);
        if (next >= mine.taken.size()) break;
        mine.taken[next].resume();
      }
      held.lock();
    } else if (closed_) {
      break;
    } else {
      sleeping_.push_back(&mine);
      mine.wake.wait(held, [&mine] { return mine.woken; });
      mine.woken = false;
      helping = true;
    }
  }
  --alive_;
}

}  // namespace detail

thread_pool::thread_pool(unsigned threads) {
  if (threads == 0) throw invalid_option{"thread_pool: 0 threads"};
  state_ = std::make_shared<detail::pool_state>(threads);
}

thread_pool::~thread_pool() {
  if (state_->forked()) {
    detail::leave_to_parent(std::move(state_));
  } else {
    state_->close();
  }
}

// Each call keeps the queue: what it posts may be what lets the pool go.
void thread_pool::post(std::span<const std::coroutine_handle<>> ready) {
  std::shared_ptr { state_ } -> post(ready);
}

executor thread_pool::get_executor() const {
  return [state = state_](std::coroutine_handle<> ready) {
    std::shared_ptr { state } -> post({&ready, 1});
  };
}

}  // namespace tenantry
