#pragma once
// Loads of a cache that go on without their callers.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// Counts them, tells them when the cache is closed, and waits for their end.
///
/// Threads: all members from any thread.
class background_loads {
 public:
  using time_point = std::chrono::steady_clock::time_point;

 private:
  struct entry {
    std::vector<std::stop_source> over;
    std::string refreshed;
  };

 public:
  /// One load, or all of one call. Nothing of the cache may be used any more once it has left.
  class place {
   public:
    place(place&& from) noexcept : among_{std::exchange(from.among_, nullptr)}, mine_{from.mine_} {}
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place() { leave(); }

    void leave() noexcept;

   private:
    friend class background_loads;
    place(background_loads& among, std::list<entry>::iterator mine) noexcept : among_{&among}, mine_{mine} {}
    background_loads* among_;
    std::list<entry>::iterator mine_;
  };

  /// Nothing when the cache is closed. The sources are triggered when that happens.
  std::optional<place> enter(std::vector<std::stop_source> over);
  /// The same for loading a fresh value anew; nothing also when that is under way for this key.
  std::optional<place> enter_refresh(const std::string& key, std::stop_source over);

  /// Lets no more in, tells those inside and waits for them. False when the time came first.
  bool close(std::optional<time_point> until);
  [[nodiscard]] bool closed() const noexcept { return closed_; }

 private:
  std::mutex mutex_;
  std::condition_variable left_;
  std::atomic<bool> closed_ = false;
  std::list<entry> inside_;
  std::set<std::string> refreshing_;
};

}  // namespace tenantry::detail
