#pragma once
// The I/O thread of a client.

#include "net/wait.hpp"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <poll.h>
#include <thread>
#include <vector>

namespace tenantry::detail {

/// What runs on the I/O thread: a lane or a push connection.
class io_task {
 public:
  /// What it waits for until it runs again.
  struct interest {
    int fd = -1;  // none
    short events = 0;
    net::clock::time_point wake_at = net::clock::time_point::max();
  };

  /// Does all there is to do without waiting. `events` are those of the descriptor named last.
  virtual interest run(short events) noexcept = 0;
  /// True when there is something to do at once; asked before the thread goes to sleep.
  [[nodiscard]] virtual bool has_work() noexcept = 0;

  io_task() = default;
  io_task(const io_task&) = delete;
  io_task& operator=(const io_task&) = delete;
  virtual ~io_task() = default;
};

/// One thread that runs its tasks in turn and sleeps while none has anything to do. It is started by the first task.
///
/// Threads: all members from any thread.
class io_loop {
 public:
  io_loop() = default;
  io_loop(const io_loop&) = delete;
  io_loop& operator=(const io_loop&) = delete;
  ~io_loop() { stop(); }

  /// Errors: std::system_error when no thread can be started.
  void add(io_task& task);
  /// When it returns, the task does not run and is not going to. Not for the I/O thread.
  void remove(io_task& task);
  /// Destroys the task once it does not run and is not going to; on the I/O thread, unless that has ended. From any
  /// thread, without waiting.
  void retire(std::unique_ptr<io_task> task) noexcept;
  /// Makes the tasks run soon. Costs nothing while the thread is awake.
  void wake() noexcept {
    if (sleeping_.load() && sleeping_.exchange(false)) wakeup_.set();
  }
  [[nodiscard]] bool on_this_thread() const noexcept { return std::this_thread::get_id() == thread_id_.load(); }
  /// Ends the thread. Not for the I/O thread.
  void stop();

 private:
  struct entry {
    io_task* task = nullptr;
    io_task::interest wanted;
    short events = 0;
  };

  void work() noexcept;
  void take_changes() noexcept;
  void wait();

  net::wakeup wakeup_;
  std::atomic<bool> sleeping_ = false;
  std::atomic<bool> stopping_ = false;
  std::atomic<std::thread::id> thread_id_{};

  // Of the I/O thread.
  std::vector<entry> entries_;
  std::vector<pollfd> polled_;

  std::mutex mutex_;
  std::vector<io_task*> added_;
  std::vector<const io_task*> removed_;
  std::vector<std::unique_ptr<io_task>> retired_;
  std::size_t tasks_ = 0;
  bool ended_ = false;  // no task runs any more
  std::condition_variable removal_done_;
  std::atomic<bool> changed_ = false;
  std::thread thread_;
};

}  // namespace tenantry::detail
