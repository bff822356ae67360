#pragma once
// Connections that one caller at a time has for itself, kept for the next one.

#include "engine/blocking_driver.hpp"

#include <tenantry/client_options.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace tenantry::detail {

/// Threads: all members from any thread.
class exclusive_pool {
 public:
  explicit exclusive_pool(const client_options& options) : options_{options} {}

  /// A connection, opened by its first call. Nothing, and why, when the client is closed or all are taken.
  std::shared_ptr<blocking_driver> take(failure& why);
  /// A clean one is used again; any other is closed.
  void give_back(std::shared_ptr<blocking_driver> one, bool clean) noexcept;

  void begin_close();
  void close(net::clock::time_point deadline);
  void abandon() noexcept;

 private:
  const client_options& options_;
  std::mutex mutex_;
  bool closed_ = false;
  std::vector<std::shared_ptr<blocking_driver>> idle_;
  std::vector<std::shared_ptr<blocking_driver>> taken_;
};

}  // namespace tenantry::detail
