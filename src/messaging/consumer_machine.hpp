#pragma once
// What a consumer of a group does next: hand out, exchange with Redis, or wait. Sans-io.

#include <tenantry/detail/consume_core.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// An event that this consumer was given.
struct held_work {
  std::string id;
  std::uint64_t offset = 0;
  std::string tag;
  std::string payload;
  std::uint32_t attempt = 1;
  mutable std::atomic<bool> lost{false};
};

/// What became of an event.
struct settled_work {
  enum class outcome : unsigned char {
    done,
    again,  ///< to be handed out again, to anybody
    dead,
  };
  outcome what = outcome::done;
  work_ref of;
  std::chrono::milliseconds after{0};  // again: from now on
  std::uint32_t attempts = 0;          // again, dead: those that count
  std::string why = {};                // dead
};

/// What Redis is told and asked.
struct work_request {
  std::size_t count = 0;  // of events, at most
  std::string epoch;      // of those that are settled
  bool group_known = false;
  std::optional<std::string> claim_from = std::nullopt;  // looks for work of the dead
  std::size_t recover = 0;                               // of what a lost answer may have given, look at so many
  bool leave = false;
  std::vector<settled_work> settled;
};

struct work_reply {
  std::string epoch;       // empty: there is no log
  std::string claim_from;  // where the search goes on; empty: it is over
  std::uint64_t trimmed = 0;
  std::uint64_t dead = 0;
  std::vector<std::shared_ptr<held_work>> given;
};

/// - Each event it was given is settled once, or given back.
/// - What is settled is said with the next request, `settles_after` later at most while there is more to hand out.
/// - A request whose answer was lost is followed by one that asks for what it may have given.
class consumer_machine {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  enum class step : unsigned char { hand_out, exchange, wait };
  static constexpr std::chrono::milliseconds settles_after{100};
  static constexpr std::string_view at_first = "0-0";

  explicit consumer_machine(const consume_options& how);

  [[nodiscard]] step next(time_point now);
  /// hand_out: the event that is to be settled next, with one of these.
  [[nodiscard]] const work_ref& current() const noexcept { return queue_.front(); }
  void done(time_point now);
  void failed(std::string_view why, time_point now);
  void undecodable(std::string_view why, time_point now);
  /// wait: so long, if nothing is appended.
  [[nodiscard]] time_point wait_until() const noexcept;
  /// Something may have been appended.
  void news() noexcept { wants_more_ = true; }

  /// exchange: followed by one of the two.
  [[nodiscard]] const work_request& request(time_point now);
  void answered(work_reply answer, time_point now);
  /// What is to be handed out.
  [[nodiscard]] const std::deque<work_ref>& held() const noexcept { return queue_; }
  void unanswered(bool may_have_run) noexcept;
  /// An answer was lost that may have given it something.
  [[nodiscard]] bool recovers() const noexcept { return recover_; }
  /// The last one: what was not handed out is given back.
  [[nodiscard]] const work_request& leave(time_point now);

  [[nodiscard]] const consumer_counters& counters() const noexcept { return counters_; }

 private:
  /// An event of which this consumer said that it is to be handed out again.
  struct retrying {
    std::uint64_t offset = 0;
    std::uint32_t attempts = 0;
    time_point due;
    int looked = 0;
  };

  void settle(settled_work what, time_point now);
  [[nodiscard]] bool claims(time_point now) const noexcept;
  void looked(time_point now);
  [[nodiscard]] bool handed_out_already(const held_work& given);

  const consume_options how_;
  std::string epoch_;
  bool wants_more_ = true;
  bool recover_ = false;
  std::string claim_from_{at_first};  // empty: not before claim_at_
  time_point claim_at_{};
  std::deque<work_ref> queue_;
  time_point settled_first_{};
  std::vector<retrying> retrying_;
  work_request request_;  // the next one
  consumer_counters counters_;
};

}  // namespace tenantry::detail
