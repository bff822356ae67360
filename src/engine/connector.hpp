#pragma once
// Opens connections for the I/O thread, which must not wait for that itself.

#include "engine/connect.hpp"
#include "net/resolver.hpp"
#include "net/wait.hpp"

#include <tenantry/client_options.hpp>

#include <functional>
#include <mutex>
#include <optional>
#include <thread>

namespace tenantry::detail {

/// One attempt at a time, each in a thread of its own, which ends with it.
///
/// Threads: one at a time.
class connector {
 public:
  explicit connector(const client_options& options) : options_{options} {}
  connector(const connector&) = delete;
  connector& operator=(const connector&) = delete;
  /// Ends the attempt.
  ~connector();

  /// `done` is called in the attempt's thread when there is a result to take.
  void start(net::clock::time_point now, const std::function<void()>& done);
  /// The result, once. An attempt that ran out of time has failed.
  std::optional<connect_result> take();
  /// No attempt gets anywhere from now on.
  void give_up() const noexcept { giving_up_.set(); }

 private:
  void put(connect_result result);

  const client_options& options_;
  net::wakeup giving_up_;
  net::resolver names_;
  std::thread attempt_;
  std::mutex mutex_;
  std::optional<connect_result> result_;
};

}  // namespace tenantry::detail
