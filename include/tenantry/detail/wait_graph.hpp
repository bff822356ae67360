#pragma once
// Who waits for whose load, so that loaders which fetch each other's keys never wait in a circle.

#include <tenantry/export.hpp>

namespace tenantry::detail {

/// The calling thread, as others see it while it leads a load.
struct load_thread;

/// A load that one thread leads and others may wait for.
class TENANTRY_EXPORT led_load {
 public:
  /// The calling thread leads it from now on.
  void lead() noexcept;
  /// Its result is there: nobody waits for its thread any more.
  void finish() noexcept;

  /// True when the calling thread may wait for this load; it counts as waiting then until a `wait_ends` is destroyed.
  /// False when the thread that leads it waits, through any number of others, for a load of the calling thread.
  [[nodiscard]] bool begin_wait() noexcept;

  struct TENANTRY_EXPORT wait_ends {
    wait_ends() noexcept = default;
    ~wait_ends();
    wait_ends(const wait_ends&) = delete;
    wait_ends& operator=(const wait_ends&) = delete;
  };

 private:
  load_thread* leader_ = nullptr;
};

}  // namespace tenantry::detail
