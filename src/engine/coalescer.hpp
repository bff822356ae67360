#pragma once
// Requests with the same question that come while one is on the way, put into one call.

#include "engine/parker.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// Of each question one call is on the way at a time. Requests that come meanwhile wait for the next one, which the
/// latest of them leads: it has most time left. So a request waits for two round trips at most, a question that many
/// ask costs few calls, and no request gets an answer that was asked for before it came. One that comes alone waits for
/// nobody.
///
/// Each request joins first. While `now` says that it leads, it has to call `begin`, ask for as many requests as that
/// says, and call `end`; or `resign`.
///
/// A `Question` has `hash()` and `==`; an `Outcome` is what all requests of a call see.
///
/// Threads: all members from any thread, those with a request from who made it.
template <class Question, class Outcome, std::size_t Shards>
class coalescer {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  enum class state : unsigned char { waits, leads, ended };
  class request;

  /// One call for several requests. Its end is seen by all of them.
  struct call {
    std::vector<request*> requests;  // in order; the coalescer's
    Outcome outcome;                 // from the end on it does not change
  };

  /// A request and who waits for it. Lives in the frame of that thread or coroutine.
  class request {
   public:
    explicit request(Question what) noexcept : what_{std::move(what)}, hash_{what_.hash()} {}
    request(const request&) = delete;
    request& operator=(const request&) = delete;
    ~request() = default;

    [[nodiscard]] state now() const noexcept { return now_.load(std::memory_order_acquire); }
    /// Those of its call that come before it.
    [[nodiscard]] std::uint64_t rank() const noexcept { return rank_; }
    /// After the end.
    [[nodiscard]] const Outcome& outcome() const noexcept { return call_->outcome; }

   private:
    friend class coalescer;
    [[nodiscard]] bool goes_with(const request& other) const noexcept {
      return hash_ == other.hash_ && what_ == other.what_;
    }

    Question what_;
    std::size_t hash_;
    std::atomic<state> now_{state::waits};
    std::uint64_t rank_ = 0;
    std::shared_ptr<call> call_;  // nothing while it is alone
    parker* bed_ = nullptr;       // of a thread that sleeps
    std::stop_source wake_{std::nostopstate};
  };

  void join(request& mine) {
    shard& in = shard_of(mine);
    const std::lock_guard held{in.mutex};
    line* const there = line_of(in, mine);
    if (there == nullptr) {
      in.lines.push_back({.leader = &mine, .next = {}});
      mine.now_.store(state::leads, std::memory_order_release);
      return;
    }
    if (!there->next) there->next = std::make_shared<call>();
    there->next->requests.push_back(&mine);
    mine.call_ = there->next;
  }

  /// The leader's: how many requests its call is for.
  std::uint64_t begin(request& mine) {
    if (!mine.call_) return 1;
    shard& in = shard_of(mine);
    const std::lock_guard held{in.mutex};
    line& of = *line_of(in, mine);
    if (of.next == mine.call_) of.next.reset();  // who comes from now on is for the one after it
    std::uint64_t rank = 0;
    for (request* each : mine.call_->requests) each->rank_ = rank++;
    return rank;
  }

  /// The leader's: what became of it. The next call has a leader by then.
  void end(request& mine, Outcome outcome) {
    shard& in = shard_of(mine);
    wakeups woken;
    {
      const std::lock_guard held{in.mutex};
      hand_on(in, *line_of(in, mine), woken);
      if (mine.call_) {
        mine.call_->outcome = std::move(outcome);
        for (request* each : mine.call_->requests) {
          if (each != &mine) woken.add(*each);
          each->now_.store(state::ended, std::memory_order_release);
        }
      }
    }
    woken.run();
  }

  /// The leader's: it gives up, before or after `begin`, and the call is for the others. One of them leads it then, and
  /// begins it anew.
  void resign(request& mine) {
    shard& in = shard_of(mine);
    wakeups woken;
    {
      const std::lock_guard held{in.mutex};
      line& of = *line_of(in, mine);
      if (mine.call_) std::erase(mine.call_->requests, &mine);
      if (mine.call_ && !mine.call_->requests.empty()) {
        lead(of, *mine.call_->requests.back(), woken);
      } else {
        hand_on(in, of, woken);
      }
    }
    woken.run();
  }

  /// Waits no longer. Nothing when it leads or has ended meanwhile: then it has to go on with that.
  std::optional<execution> leave(request& mine) {
    shard& in = shard_of(mine);
    const std::lock_guard held{in.mutex};
    if (mine.now() != state::waits) return std::nullopt;
    const line* const there = line_of(in, mine);
    const bool collecting = there != nullptr && there->next == mine.call_;
    std::erase(mine.call_->requests, &mine);
    return collecting ? execution::not_sent : execution::unknown;
  }

  /// Waits as a thread until its state is another one, the time has come, or the token was triggered.
  void sleep_until(request& mine, time_point limit, const std::stop_token& stop = {}) {
    for (int i = 0; i < yields_before_sleep; ++i) {
      if (mine.now() != state::waits) return;
      std::this_thread::yield();
    }
    shard& in = shard_of(mine);
    std::unique_lock held{in.mutex};
    if (mine.now() != state::waits) return;
    parker& bed = in.beds.take();
    bed.prepare();
    mine.bed_ = &bed;
    {
      const auto wake = [&bed] { bed.wake(); };
      const std::stop_callback on_stop{stop, wake};
      while (mine.now() == state::waits && !stop.stop_requested() && std::chrono::steady_clock::now() < limit) {
        held.unlock();
        bed.sleep(limit);
        held.lock();
      }
    }
    mine.bed_ = nullptr;
    in.beds.give_back(bed);
  }

  /// The same for coroutines: triggered when its state is another one.
  std::stop_token changed(request& mine) {
    shard& in = shard_of(mine);
    const std::lock_guard held{in.mutex};
    if (mine.now() == state::waits) {
      mine.wake_ = std::stop_source{};
      return mine.wake_.get_token();
    }
    const std::stop_source over;
    over.request_stop();
    return over.get_token();
  }

  /// How many wait for the call after that of this leader.
  [[nodiscard]] std::size_t waiting(const request& leader) {
    shard& in = shard_of(leader);
    const std::lock_guard held{in.mutex};
    const line* const there = line_of(in, leader);
    return there != nullptr && there->next ? there->next->requests.size() : 0;
  }

 private:
  /// A call takes about as long as a few other threads run for, so most need not sleep.
  static constexpr int yields_before_sleep = 16;

  struct line {
    request* leader = nullptr;   // of the call that is on the way, or that begins next
    std::shared_ptr<call> next;  // collects
  };
  struct wakeups {
    std::vector<parker*> threads;
    std::vector<std::stop_source> coroutines;

    void add(request& whom) {
      if (whom.bed_ != nullptr) threads.push_back(whom.bed_);
      if (whom.wake_.stop_possible()) coroutines.push_back(std::move(whom.wake_));
    }
    void run() const {
      for (parker* each : threads) each->wake();
      for (const std::stop_source& each : coroutines) each.request_stop();
    }
  };
  struct alignas(64) shard {
    std::mutex mutex;
    std::vector<line> lines;
    parker_pool beds;
  };

  [[nodiscard]] shard& shard_of(const request& one) noexcept { return shards_[one.hash_ / 1024 % shards_.size()]; }
  static line* line_of(shard& in, const request& one) {
    const auto found = std::ranges::find_if(in.lines, [&](const line& each) { return each.leader->goes_with(one); });
    return found == in.lines.end() ? nullptr : &*found;
  }
  /// Without the lock, and after their state was set, those who wait may be gone.
  static void lead(line& of, request& next, wakeups& woken) {
    of.leader = &next;
    woken.add(next);
    next.now_.store(state::leads, std::memory_order_release);
  }
  static void hand_on(shard& in, line& after, wakeups& woken) {
    if (after.next && !after.next->requests.empty()) return lead(after, *after.next->requests.back(), woken);
    if (&after != &in.lines.back()) after = std::move(in.lines.back());
    in.lines.pop_back();
  }

  std::array<shard, Shards> shards_;
};

}  // namespace tenantry::detail
