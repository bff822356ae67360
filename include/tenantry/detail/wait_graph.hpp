#pragma once
// Who waits for whose load, so that loaders which fetch each other's keys never wait in a circle.

#include <tenantry/export.hpp>

#include <memory>

namespace tenantry::detail {

struct load_chain;

/// A thread, as others see it while it leads a load.
struct load_thread;

/// A load that one thread or coroutine leads and others may wait for.
class TENANTRY_EXPORT led_load {
 public:
  /// The calling thread leads it from now on.
  void lead();
  /// A thread will, when there is one for this load.
  void hand_over() noexcept;
  /// Its result is there: nobody waits for its thread any more.
  void finish() noexcept;

  /// True when the calling thread may wait for this load; it counts as waiting then until a `wait_ends` is destroyed.
  /// False when the thread that leads it waits, through any number of others, for a load of the calling thread; and
  /// inside of a loader, when the load has no thread yet: it may be waiting for this one.
  [[nodiscard]] bool begin_wait();
  /// The same for a coroutine inside of these loads, which count as waiting until an `await_ends` is destroyed. False
  /// also when this load waits for another one, whatever that is.
  [[nodiscard]] bool begin_await(const load_chain& inside) noexcept;

  struct TENANTRY_EXPORT wait_ends {
    wait_ends() noexcept = default;
    ~wait_ends();
    wait_ends(const wait_ends&) = delete;
    wait_ends& operator=(const wait_ends&) = delete;
  };
  struct TENANTRY_EXPORT await_ends {
    explicit await_ends(const load_chain* those) noexcept : inside{those} {}
    ~await_ends();
    await_ends(const await_ends&) = delete;
    await_ends& operator=(const await_ends&) = delete;

    const load_chain* inside;
  };

 private:
  std::shared_ptr<load_thread> leader_;  // which may be over: a coroutine goes on elsewhere
  bool queued_ = false;
  int awaits_ = 0;  // fetches of its loader that wait as coroutines
};

}  // namespace tenantry::detail
