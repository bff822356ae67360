#pragma once
// Waiting on file descriptors until a deadline, and waking who waits.

#include <chrono>
#include <span>

namespace tenantry::net {

using clock = std::chrono::steady_clock;

/// An owned file descriptor.
class descriptor {
 public:
  descriptor() noexcept = default;
  explicit descriptor(int fd) noexcept : fd_{fd} {}
  descriptor(descriptor&& from) noexcept : fd_{from.release()} {}
  descriptor& operator=(descriptor&& from) noexcept;
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept;
  void reset() noexcept;

 private:
  int fd_ = -1;
};

/// A flag that a thread in `wait` notices (eventfd). Stays set until cleared.
class wakeup {
 public:
  wakeup();  ///< Errors: connection_error (unreachable) when the process is out of descriptors
  void set() const noexcept;
  void clear() const noexcept;
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  descriptor fd_;
};

enum class ready : unsigned char { io, woken, deadline };

/// Waits until `fd` has one of `events` (poll's bits) or a defect, one of `wakeups` is set, or the deadline passed.
/// A negative descriptor is skipped.
ready wait(int fd, short events, clock::time_point deadline, std::span<const int> wakeups) noexcept;

}  // namespace tenantry::net
