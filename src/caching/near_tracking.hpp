#pragma once
// How the near caches of a client hear of what changes in Redis.

#include "caching/cache_pushes.hpp"
#include "caching/face.hpp"
#include "caching/near_stamps.hpp"
#include "engine/seam.hpp"

#include <tenantry/client.hpp>
#include <tenantry/metrics.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

class near_cache;

/// One for all near caches of a client. The server announces changed keys on the push connection of its caches (CLIENT
/// TRACKING with OPTIN and REDIRECT, Redis 7.0).
///
/// - Reads are tracked only while the server has confirmed that it announces on that connection, and name it.
/// - What was read belongs to an epoch. Each loss of the push connection, or of a connection on which tracked reads go,
///   begins another one before there is a new connection; so does FLUSHALL. Nothing of an older one is given.
/// - Whoever takes over what was read has noted the changes of its name before it asked, and takes it only where none
///   was heard of since: a message that overtakes the reply is not lost.
///
/// Threads: all members from any thread.
class near_tracking final : public cache_pushes::listener {
 public:
  near_tracking(const client& redis, std::shared_ptr<cache_pushes> pushes);
  virtual ~near_tracking();
  near_tracking(const near_tracking&) = delete;
  near_tracking& operator=(const near_tracking&) = delete;

  /// The one of this client; starts the I/O thread. Errors: std::system_error.
  static std::shared_ptr<near_tracking> of(const client& redis);

  void add(near_cache& one);
  void remove(near_cache& one) noexcept;

  /// All that is given has to be of this epoch.
  [[nodiscard]] std::uint64_t epoch() const noexcept {
    return lost_lanes_.load(std::memory_order_acquire) + flushes_.load(std::memory_order_acquire) + fork_count();
  }
  /// The CLIENT ID to redirect to; nothing where reads cannot be tracked now.
  [[nodiscard]] std::optional<std::int64_t> redirect();
  /// True in the child of a fork, where locks may be held for ever.
  [[nodiscard]] bool forked() const noexcept { return seam::forked(redis_); }
  /// True while there is one.
  [[nodiscard]] bool active() const noexcept {
    return redirect_.load(std::memory_order_relaxed) != 0 && !seam::closed(redis_);
  }
  /// What the server answers to CLIENT TRACKING or CACHING where it does not agree.
  void refused(const std::string& text, std::int64_t redirect);
  /// Whether it has agreed, in this epoch, for the lane of threads or of coroutines; and that it has.
  [[nodiscard]] bool agreed(face lane, std::uint64_t epoch) const noexcept {
    return agreed_[static_cast<std::size_t>(lane)].load(std::memory_order_acquire) == epoch;
  }
  void agree(face lane, std::uint64_t epoch) noexcept {
    agreed_[static_cast<std::size_t>(lane)].store(epoch, std::memory_order_release);
  }

  [[nodiscard]] const near_changes& changes() const noexcept { return changes_; }
  [[nodiscard]] near_stamps& stamps() noexcept { return stamps_; }

  /// A write of this process to this name, at its beginning and its end.
  void wrote(std::string_view name, bool begins) noexcept;

  struct counts {
    std::uint64_t invalidations = 0;
    std::uint64_t flushes_push_lost = 0;
    std::uint64_t flushes_lane_lost = 0;
    std::uint64_t flushes_by_server = 0;
    histogram push_delay;
  };
  [[nodiscard]] counts counted() const;

 private:
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  /// Writes of this process whose message has not come.
  struct awaited {
    std::atomic<std::uint64_t> hash = 0;
    std::atomic<std::int64_t> since = 0;
  };

  void told(const push_event& what) override;
  void listens() noexcept;
  void lost(bool by_itself) noexcept;
  void changed(std::string_view name) noexcept;
  std::uint64_t drop(std::string_view name, std::uint64_t hash) noexcept;

  const client& redis_;
  const std::atomic<std::uint64_t>& lost_lanes_;
  std::atomic<std::uint64_t> flushes_ = 0;
  std::atomic<std::int64_t> redirect_ = 0;  // 0: none
  std::atomic<bool> refused_ = false;       // and told
  std::array<std::atomic<std::uint64_t>, 2> agreed_{never, never};

  near_changes changes_;
  near_stamps stamps_;
  std::atomic<std::uint64_t> invalidations_ = 0;
  std::atomic<std::uint64_t> flushed_by_server_ = 0;
  std::atomic<std::uint64_t> lost_by_itself_ = 0;  // the push connection; not after a lane
  const std::uint64_t lanes_lost_before_;          // this began
  std::array<awaited, 64> awaited_;
  histogram_recorder push_delay_;

  std::mutex mutex_;
  std::vector<near_cache*> caches_;
  const std::shared_ptr<cache_pushes> pushes_;
  const cache_pushes::member joined_;  // the last: `told` uses the others
};

}  // namespace tenantry::detail
