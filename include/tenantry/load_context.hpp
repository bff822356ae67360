#pragma once
// What a loader may say about the value it computes.

#include <chrono>
#include <optional>

namespace tenantry {

/// Given to a loader for one call. Threads: the loader's own.
class load_context {
 public:
  /// Keeps this value for another time than the cache's `ttl` (jitter still shortens it). Zero or less: not at all.
  void ttl(std::chrono::milliseconds span) noexcept { ttl_ = span; }
  /// Gives this value to those who wait for it, and does not store it.
  void do_not_store() noexcept { ttl_ = std::chrono::milliseconds::zero(); }

  [[nodiscard]] std::optional<std::chrono::milliseconds> chosen_ttl() const noexcept { return ttl_; }

 private:
  std::optional<std::chrono::milliseconds> ttl_;
};

}  // namespace tenantry
