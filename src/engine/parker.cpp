#include "engine/parker.hpp"

#ifdef __linux__
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace tenantry::detail {

#ifdef __linux__

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t), "the kernel reads the word itself");

void parker::prepare() noexcept { awake_.store(0, std::memory_order_relaxed); }

void parker::sleep(std::chrono::steady_clock::time_point deadline) noexcept {
  timespec until{};
  const timespec* timeout = nullptr;
  if (deadline != std::chrono::steady_clock::time_point::max()) {
    const auto since_boot = deadline.time_since_epoch();
    const auto seconds = std::chrono::floor<std::chrono::seconds>(since_boot);
    until.tv_sec = static_cast<std::time_t>(seconds.count());
    until.tv_nsec = static_cast<long>(std::chrono::nanoseconds{since_boot - seconds}.count());
    timeout = &until;
  }
  if (awake_.load(std::memory_order_acquire) != 0) return;
  ::syscall(SYS_futex, &awake_, FUTEX_WAIT_BITSET_PRIVATE, 0, timeout, nullptr, FUTEX_BITSET_MATCH_ANY);
}

void parker::wake() noexcept {
  awake_.store(1, std::memory_order_release);
  ::syscall(SYS_futex, &awake_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

#else

void parker::prepare() noexcept {
  const std::lock_guard lock{mutex_};
  awake_ = false;
}

void parker::sleep(std::chrono::steady_clock::time_point deadline) noexcept {
  std::unique_lock lock{mutex_};
  if (deadline == std::chrono::steady_clock::time_point::max()) {
    changed_.wait(lock, [this] { return awake_; });
  } else {
    changed_.wait_until(lock, deadline, [this] { return awake_; });
  }
}

void parker::wake() noexcept {
  {
    const std::lock_guard lock{mutex_};
    awake_ = true;
  }
  changed_.notify_one();
}

#endif

parker& parker_pool::take() {
  if (free_.empty()) {
    free_.reserve(all_.size() + 1);
    free_.push_back(all_.emplace_back(std::make_unique<parker>()).get());
  }
  parker& one = *free_.back();
  free_.pop_back();
  return one;
}

}  // namespace tenantry::detail
