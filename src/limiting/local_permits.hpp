#pragma once
// How many permits this process holds, for when Redis cannot say how many all do.

#include <tenantry/client.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace tenantry::detail {

/// One for all concurrency limiters of a client.
///
/// Threads: all members from any thread.
class local_permits : public std::enable_shared_from_this<local_permits> {
 public:
  static std::shared_ptr<local_permits> of(const client& redis);

  /// One of them, as long as it lives.
  class seat {
   public:
    seat() noexcept = default;
    seat(seat&& from) noexcept = default;
    seat& operator=(seat&& from) noexcept {
      leave();
      of_ = std::move(from.of_);
      key_ = std::move(from.key_);
      return *this;
    }
    ~seat() { leave(); }

    void leave() noexcept;
    /// Leaves it taken, without a lock: in the child of a fork.
    void abandon() noexcept { of_.reset(); }

   private:
    friend class local_permits;
    seat(std::shared_ptr<local_permits> of, std::string key) noexcept : of_{std::move(of)}, key_{std::move(key)} {}

    std::shared_ptr<local_permits> of_;
    std::string key_;
  };

  /// Nothing where as many as `most` are taken; `taken` says how many are then.
  std::optional<seat> take(const std::string& key, std::uint64_t most, std::uint64_t& taken);

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::uint64_t> by_key_;  // none is 0
};

}  // namespace tenantry::detail
