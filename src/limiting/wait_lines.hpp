#pragma once
// Who waits to be admitted, in order.

#include "limiting/limited_name.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <stop_token>
#include <string>
#include <unordered_map>

namespace tenantry::detail {

/// Of each name the first in line asks Redis, and the others wait until they are first.
///
/// Threads: all members from any thread.
class wait_lines {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// In line from its beginning to its end.
  class place {
   public:
    place(wait_lines& lines, const limited_view& name);
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place();

    [[nodiscard]] bool first() const;
    /// Waits as a thread until it is woken, the time has come or the token is triggered. It is woken when it becomes
    /// the first, and as the first by `stir`, also if that was since the last time.
    void wait_until(time_point limit, const std::stop_token& stop);
    /// For coroutines: triggered when it is woken.
    std::stop_source next_wakeup();

   private:
    friend class wait_lines;
    std::stop_source wake();

    wait_lines& lines_;
    const std::string name_;
    bool woken_ = false;
    std::condition_variable_any changed_;
    std::stop_source wake_{std::nostopstate};
  };

  /// There may be room earlier than was known.
  void stir(const limited_view& name);
  void stir_all();

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::deque<place*>> by_name_;
};

}  // namespace tenantry::detail
