#pragma once
// Lets the I/O thread notice that the server has ended a connection that threads drive, while none of them reads.

#include "engine/io_loop.hpp"

#include <atomic>

namespace tenantry::detail {

class blocking_driver;

/// Watching is not driving: nothing is read, and the thread does not wake up for replies.
///
/// Not promised: that it notices on systems without POLLRDHUP (it is of Linux), or where the end of the connection got
/// lost on the way.
class hang_up_watch final : public io_task {
 public:
  /// Errors: std::system_error when the loop cannot start its thread.
  /// Lifetime: the lane outlives the watch, and the loop runs it until it is stopped.
  hang_up_watch(io_loop& loop, blocking_driver& lane);
  ~hang_up_watch() override;

  /// The lane has another connection now, or none. From any thread.
  void look_again() noexcept;

 private:
  interest run(short events) noexcept override;
  [[nodiscard]] bool has_work() noexcept override { return changed_; }

  io_loop& loop_;
  blocking_driver& lane_;
  std::atomic<bool> changed_ = true;
  interest watched_;  // of the I/O thread
};

}  // namespace tenantry::detail
