#pragma once
// Whether this process is the child of a fork, and what such a child must not touch.

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

namespace tenantry::detail {

/// From now on forks are counted. Called when the library is loaded, and by what may be made before that, in
/// constructors of static objects. Where there is no memory for it, a fork is not noticed.
void watch_forks() noexcept;

/// How many forks led to this process, since they are counted. Costs one memory read.
[[nodiscard]] std::uint64_t fork_count() noexcept;

/// A T of each process: in the child of a fork there is another one, because the locks of the parent's may be held for
/// ever, and what they guard may be half changed. Never destroyed: the program may use it while it ends.
///
/// Threads: all members from any thread.
template <class T>
class one_per_process {
 public:
  T& get() {
    one* now = current_.load(std::memory_order_acquire);
    while (now == nullptr || now->forks != fork_count()) {
      auto own = std::make_unique<one>();
      if (current_.compare_exchange_strong(now, own.get())) return own.release()->what;
    }
    return now->what;
  }

 private:
  struct one {
    const std::uint64_t forks = fork_count();
    T what{};
  };
  std::atomic<one*> current_ = nullptr;
};

/// Keeps for ever, as it is, what belongs to the parent and may be half changed.
template <class T>
void leave_to_parent(std::shared_ptr<T>&& of) noexcept {
  static_cast<void>(new (std::nothrow) std::shared_ptr<T>{std::move(of)});
}
template <class T>
void leave_to_parent(std::unique_ptr<T>&& of) noexcept {
  static_cast<void>(of.release());
}

}  // namespace tenantry::detail
