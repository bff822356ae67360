#pragma once
// A message as it came, held once however many get it.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace tenantry::detail {

/// Does not change while it is shared.
struct published {
  std::string channel;
  std::string payload;
  std::chrono::steady_clock::time_point received{};
  std::atomic<std::uint32_t> owners{1};
  bool timed = false;  // whoever takes it measures how long that took

  void release(std::uint32_t count = 1) noexcept {
    if (owners.fetch_sub(count, std::memory_order_acq_rel) == count) delete this;
  }
};

/// One owner.
class published_ref {
 public:
  published_ref() noexcept = default;
  /// Takes over an owner that was counted.
  explicit published_ref(published* counted) noexcept : what_{counted} {}
  published_ref(const published_ref& from) noexcept : what_{from.what_} {
    if (what_ != nullptr) what_->owners.fetch_add(1, std::memory_order_relaxed);
  }
  published_ref(published_ref&& from) noexcept : what_{std::exchange(from.what_, nullptr)} {}
  published_ref& operator=(published_ref from) noexcept {
    std::swap(what_, from.what_);
    return *this;
  }
  ~published_ref() {
    if (what_ != nullptr) what_->release();
  }

  const published* operator->() const noexcept { return what_; }

 private:
  published* what_ = nullptr;
};

}  // namespace tenantry::detail
