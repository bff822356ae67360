#pragma once
// Renews the leases of loads that take long.

#include <tenantry/client.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <list>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

namespace tenantry::detail {

/// One for all caches of a client. Its work is done on the client's I/O thread, which the first load starts; while no
/// load takes longer than a third of its lease nothing is sent. Where that thread cannot be started, leases are not
/// renewed until a later load starts it.
///
/// Threads: all members from any thread.
class lease_keeper : public std::enable_shared_from_this<lease_keeper> {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit lease_keeper(const client& redis) : redis_{redis} {}
  static std::shared_ptr<lease_keeper> of(const client& redis);

  /// Keeps a lease while it lives, until `until` at the latest; then it says so to `over`.
  class hold {
   public:
    hold(std::shared_ptr<lease_keeper> keeper, const std::string& name, const std::string& lease,
         std::chrono::milliseconds life, time_point until, std::stop_source over);
    hold(const hold&) = delete;
    hold& operator=(const hold&) = delete;
    ~hold();

   private:
    struct entry;
    friend class lease_keeper;
    std::shared_ptr<lease_keeper> keeper_;
    std::list<entry>::iterator mine_;
  };

 private:
  void begin() noexcept;
  void stopped() noexcept;
  static task<void> work(std::shared_ptr<lease_keeper> self);
  /// Ends what is over: for loaders that is their own code, so not on the I/O thread.
  static task<void> tell(const client& redis, std::vector<std::stop_source> over);
  /// The commands that are due, what is over, and when to look again; nothing kept: no time.
  std::vector<command> due(time_point now, time_point& next, std::vector<std::stop_source>& over);

  const client& redis_;
  std::mutex mutex_;
  bool working_ = false;
  time_point looks_at_ = time_point::max();  // while it waits
  std::stop_source sooner_{std::nostopstate};
  std::list<hold::entry> kept_;
};

struct lease_keeper::hold::entry {
  std::string name;
  std::string lease;
  std::chrono::milliseconds life{0};
  time_point until;
  std::stop_source over;
  time_point next;
};

}  // namespace tenantry::detail
