#pragma once
// The loads that are under way in this process, for whoever may wait for one.

#include <tenantry/detail/fetched.hpp>
#include <tenantry/detail/wait_graph.hpp>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tenantry::detail {

/// One load. Its result is delivered to all who wait for it, by threads or as coroutines.
class flight : public led_load {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit flight(std::string_view identity) : identity_{identity} {}

  [[nodiscard]] const std::string& identity() const noexcept { return identity_; }
  /// Waits for the end. False when the time came first.
  bool wait_until(time_point limit);
  /// For coroutines: triggers the source at the end, at once when that has come.
  void at_end(std::stop_source wake);
  [[nodiscard]] bool ended() const;

  /// After the end: the result, or nothing when the loader threw, and what.
  [[nodiscard]] const std::optional<fetched>& result() const noexcept { return result_; }
  [[nodiscard]] const std::exception_ptr& fault() const noexcept { return fault_; }

 private:
  friend class flights;
  void land(std::optional<fetched> result, std::exception_ptr fault);

  const std::string identity_;
  mutable std::mutex mutex_;
  std::condition_variable landed_;
  bool ended_ = false;  // from here on the next two do not change
  std::optional<fetched> result_;
  std::exception_ptr fault_;
  std::vector<std::stop_source> waiters_;
};

/// By key, and of each key by identity: the lease of the load.
///
/// Threads: all members from any thread.
class flights {
 public:
  struct seat {
    std::shared_ptr<flight> joined;  // nothing where there is none and none may be led
    bool leads = false;
  };

  /// The flight of this identity. Its leader has to call `land`, and `lead` where its thread is known.
  seat board(const std::string& key, std::string_view identity, bool may_lead);
  /// A flight whose lease is being asked for: who sees that lease in Redis finds it here. It becomes the caller's to
  /// lead as of `board`, or is withdrawn; nobody has joined it then.
  std::shared_ptr<flight> announce(const std::string& key, std::string_view identity);
  void withdraw(const std::string& key, const std::shared_ptr<flight>& mine) noexcept;
  /// Nobody joins it from now on; those who have are told when it lands.
  void leave(const std::string& key, const std::shared_ptr<flight>& mine) noexcept { remove(key, mine); }
  /// Ends a flight, with a result or what was thrown; also one that is none of these.
  void land(const std::string& key, const std::shared_ptr<flight>& mine, std::optional<fetched> result,
            std::exception_ptr fault) noexcept;

 private:
  std::shared_ptr<flight> add(const std::string& key, std::string_view identity);
  void remove(const std::string& key, const std::shared_ptr<flight>& mine) noexcept;

  std::mutex mutex_;
  std::unordered_map<std::string, std::vector<std::shared_ptr<flight>>> by_key_;
};

}  // namespace tenantry::detail
