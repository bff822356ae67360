#pragma once
// Renews the permits that are held for long, and gives back those that nobody waits to see given back.

#include <tenantry/client.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/task.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace tenantry::detail {

/// A place in Redis, as far as this process knows.
struct permit_lease {
  using time_point = std::chrono::steady_clock::time_point;
  enum class stage : unsigned char {
    kept,     ///< is renewed
    leaving,  ///< is given back
    doubted,  ///< may have been taken, or may still be: is given back as soon as it is there
  };

  permit_lease(std::string key, std::chrono::milliseconds life);

  const std::string key;
  const std::string member;
  const std::chrono::milliseconds life;
  std::atomic<time_point> until;  // it is there until then, unless it was deleted
  std::atomic<bool> gone = false;

  // The keeper's, under its mutex.
  stage now = stage::kept;
  time_point next{};  // when Redis is to be told; the last of all times while another one does
  int failures = 0;   // in a row, or answers that it was not there
  std::optional<time_point> give_up = {};
  std::optional<std::list<std::shared_ptr<permit_lease>>::iterator> place = {};
};

/// One for all concurrency limiters of a client. Its work is done on the client's I/O thread, which the first permit
/// starts; while no permit lives longer than a third of its lease, and none is to be given back, nothing is sent.
///
/// Threads: all members from any thread.
/// Lifetime: it may outlive the client. Then, and once that is closed, its members do nothing.
class permit_keeper : public std::enable_shared_from_this<permit_keeper> {
 public:
  using time_point = permit_lease::time_point;
  using lease_ptr = std::shared_ptr<permit_lease>;

  explicit permit_keeper(const client& redis);
  static std::shared_ptr<permit_keeper> of(const client& redis);

  void keep(const lease_ptr& what) noexcept;
  void doubt(const lease_ptr& what) noexcept;
  /// Gives back what is kept: soon, with a blocking call of this caller, or when the task has ended.
  void release(const lease_ptr& what) noexcept;
  void release_by(const caller& by, const lease_ptr& what) noexcept;
  static task<void> async_release(std::shared_ptr<permit_keeper> self, caller by, lease_ptr what);

 private:
  struct batch;

  [[nodiscard]] bool usable() const noexcept;
  void put(const lease_ptr& what, permit_lease::stage now, time_point next) noexcept;
  void leave_out(permit_lease& what) noexcept;  // with the mutex
  void end(const lease_ptr& what) noexcept;
  void begin() noexcept;
  void stopped() noexcept;
  void closed() noexcept;
  static task<void> work(std::shared_ptr<permit_keeper> self);
  [[nodiscard]] batch due(time_point now);
  void settle(const batch& sent, const std::vector<reply>& replies);
  void settle_one(permit_lease& what, permit_lease::stage asked, std::optional<bool> was_there, time_point sent);

  const client& redis_;  // while the work is done
  const caller on_;
  const std::weak_ptr<const void> life_;
  std::mutex mutex_;
  bool working_ = false;
  bool closed_ = false;
  time_point looks_at_ = time_point::min();  // while it waits
  time_point renewed_{};                     // all that were due
  std::stop_source sooner_{std::nostopstate};
  std::list<lease_ptr> all_;
};

}  // namespace tenantry::detail
