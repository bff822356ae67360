#include "net/wait.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <poll.h>
#include <sys/eventfd.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace tenantry::net {

descriptor& descriptor::operator=(descriptor&& from) noexcept {
  if (this != &from) {
    reset();
    fd_ = from.release();
  }
  return *this;
}

int descriptor::release() noexcept { return std::exchange(fd_, -1); }

void descriptor::reset() noexcept {
  if (fd_ >= 0) ::close(release());
}

wakeup::wakeup() : fd_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
  if (!fd_) {
    throw connection_error{errc::unreachable, execution::not_sent,
                           "eventfd: " + std::generic_category().message(errno)};
  }
}

void wakeup::set() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);  // can only fail when already set
}

void wakeup::clear() const noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto taken = ::read(fd_.get(), &count, sizeof count);  // can only fail when not set
}

ready wait(int fd, short events, clock::time_point deadline, std::span<const int> wakeups) noexcept {
  std::array<pollfd, 4> polled{};
  nfds_t count = 0;
  polled[count++] = {.fd = fd, .events = events, .revents = 0};
  for (const int wakeup : wakeups) polled[count++] = {.fd = wakeup, .events = POLLIN, .revents = 0};

  for (;;) {
    timespec left{};
    const timespec* timeout = nullptr;
    if (deadline != clock::time_point::max()) {
      const auto span = std::max(deadline - clock::now(), clock::duration::zero());
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(span);
      left.tv_sec = static_cast<std::time_t>(seconds.count());
      left.tv_nsec = static_cast<long>(std::chrono::nanoseconds{span - seconds}.count());
      timeout = &left;
    }
    const int ready_count = ::ppoll(polled.data(), count, timeout, nullptr);
    if (ready_count == 0) return ready::deadline;
    if (ready_count < 0) {
      if (errno == EINTR) continue;
      // Out of memory in the kernel: the system call that follows tells what it can.
      return clock::now() >= deadline ? ready::deadline : ready::io;
    }
    for (nfds_t i = 1; i < count; ++i) {
      if (polled[i].revents != 0) return ready::woken;
    }
    return ready::io;
  }
}

}  // namespace tenantry::net
