#pragma once
// Requests of one name and cost that come while another one is on the way, put into one call.

#include "engine/seam.hpp"
#include "limiting/limit_rules.hpp"
#include "limiting/limited_name.hpp"

#include <tenantry/error.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <vector>

namespace tenantry::detail {

class coalesced_request;

/// One call for several requests. Its end is seen by all of them.
struct coalesced_call {
  std::vector<coalesced_request*> requests;  // in order; the coalescer's
  std::optional<limit_answer> answer;        // from the end on these do not change
  std::shared_ptr<const error> failure;
  std::chrono::steady_clock::time_point received{};
};

/// A request and who waits for it. Lives in the frame of that thread or coroutine.
class coalesced_request {
 public:
  enum class state : unsigned char { waits, leads, ended };

  /// `name` and `rules` live as long as the request.
  coalesced_request(const limited_view& name, std::uint64_t cost, const limit_rules& rules) noexcept
      : name_{name}, cost_{cost}, rules_{&rules}, hash_{name.hash() ^ (cost * 0x9e3779b97f4a7c15U)} {}
  coalesced_request(const coalesced_request&) = delete;
  coalesced_request& operator=(const coalesced_request&) = delete;
  ~coalesced_request() = default;

  [[nodiscard]] state now() const noexcept { return now_.load(std::memory_order_acquire); }
  /// Those of its call that come before it.
  [[nodiscard]] std::uint64_t rank() const noexcept { return rank_; }
  /// After the end.
  [[nodiscard]] const coalesced_call& call() const noexcept { return *call_; }

 private:
  friend class coalescer;
  [[nodiscard]] bool goes_with(const coalesced_request& other) const noexcept {
    return hash_ == other.hash_ && cost_ == other.cost_ && rules_ == other.rules_ && name_ == other.name_;
  }

  limited_view name_;
  std::uint64_t cost_;
  const limit_rules* rules_;
  std::size_t hash_;
  std::atomic<state> now_{state::waits};
  std::uint64_t rank_ = 0;
  std::shared_ptr<coalesced_call> call_;  // nothing while it is alone
  parker* bed_ = nullptr;                 // of a thread that sleeps
  std::stop_source wake_{std::nostopstate};
};

/// Of each name and cost one call is on the way at a time. Requests that come meanwhile wait for the next one, which
/// the latest of them leads: it has most time left. So a request waits for two round trips at most, and a name that
/// many ask for costs few calls. One that comes alone waits for nobody.
///
/// Each request joins first. While `now` says that it leads, it has to call `begin`, ask Redis for as many requests as
/// that says, and call `end`.
///
/// Threads: all members from any thread, those with a request from who made it.
class coalescer {
 public:
  void join(coalesced_request& mine);
  /// The leader's: how many requests its call is for.
  std::uint64_t begin(coalesced_request& mine);
  /// The leader's: what became of it. The next call has a leader by then.
  void end(coalesced_request& mine, const limit_answer* answer, std::shared_ptr<const error> failure,
           std::chrono::steady_clock::time_point received);
  /// Waits no longer. Nothing when it leads or has ended meanwhile: then it has to go on with that.
  std::optional<execution> leave(coalesced_request& mine);

  /// Waits as a thread until its state is another one or the time has come.
  void sleep_until(coalesced_request& mine, std::chrono::steady_clock::time_point limit);
  /// The same for coroutines: triggered when its state is another one.
  std::stop_token changed(coalesced_request& mine);
  /// How many wait for the call after that of this leader.
  [[nodiscard]] std::size_t waiting(const coalesced_request& leader);

 private:
  struct line {
    coalesced_request* leader = nullptr;   // of the call that is on the way, or that begins next
    std::shared_ptr<coalesced_call> next;  // collects
  };
  struct wakeups {
    std::vector<parker*> threads;
    std::vector<std::stop_source> coroutines;
    void add(coalesced_request& whom);
    void run() const;
  };
  struct alignas(64) shard {
    std::mutex mutex;
    std::vector<line> lines;
    parker_pool beds;
  };

  [[nodiscard]] shard& shard_of(const coalesced_request& one) noexcept {
    return shards_[one.hash_ / 1024 % shards_.size()];
  }
  static line* line_of(shard& in, const coalesced_request& one);
  static void hand_on(shard& in, line& after, wakeups& woken);

  std::array<shard, 32> shards_;
};

}  // namespace tenantry::detail
