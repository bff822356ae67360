#pragma once
// What waits to be taken by one listener, in order, and what is dropped. Sans-io.

#include "engine/seam.hpp"

#include <tenantry/detail/feed_core.hpp>
#include <tenantry/feed_events.hpp>
#include <tenantry/subscription.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace tenantry::detail {

/// Messages up to a bound, and between them what has to be told at that place: gaps, how many were dropped, the end.
///
/// Between two messages there is one gap at most, however many there were, with one note of dropped messages before and
/// one after it: so what waits is bounded.
class feed_queue {
 public:
  feed_queue(std::size_t capacity, std::size_t capacity_bytes, overflow when_full) noexcept
      : capacity_{capacity}, capacity_bytes_{capacity_bytes}, when_full_{when_full} {}
  feed_queue(const feed_queue&) = delete;
  feed_queue& operator=(const feed_queue&) = delete;
  ~feed_queue();

  /// One owner of the message is the queue's from now on. False when the subscription ended by it.
  bool push(published* counted);
  void add(const gap& missed);
  /// Nothing follows.
  void close(closed how);
  /// Drops all, and nothing follows, not even the end.
  void clear() noexcept;

  /// The next one. Nothing when there is none.
  std::optional<feed_item> pop();
  [[nodiscard]] bool empty() const noexcept { return messages_.empty() && notes_.empty(); }
  /// True when nothing more will come.
  [[nodiscard]] bool over() const noexcept { return over_ && empty(); }
  /// True when no more messages are taken.
  [[nodiscard]] bool ended() const noexcept { return over_; }

  [[nodiscard]] subscription_counters counters() const noexcept;
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }
  void count_undecodable() noexcept { ++undecodable_; }
  /// For one that was taken.
  void count_time(std::chrono::nanoseconds in_queue) noexcept;

 private:
  struct entry {
    std::uint64_t position = 0;
    published* what = nullptr;
  };
  /// Comes before the message of the same position.
  struct note {
    std::uint64_t position = 0;
    std::variant<gap, lagged, closed> what;
  };

  [[nodiscard]] bool full_with(std::size_t bytes) const noexcept;
  void drop_oldest();
  void drop(published* what) noexcept;
  void note_dropped_last(std::uint64_t position);
  void join_notes(std::uint64_t dropped);
  [[nodiscard]] bool after_messages(const note& one) const noexcept;
  [[nodiscard]] bool before_messages(const note& one) const noexcept;

  // What each message touches comes first.
  fifo<entry> messages_;
  std::uint64_t next_ = 0;  // position
  std::uint64_t bytes_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t delivered_ = 0;
  std::uint64_t dropped_ = 0;
  std::uint64_t most_queued_ = 0;
  std::vector<note> notes_;  // few; by position
  const std::size_t capacity_;
  const std::size_t capacity_bytes_;
  const overflow when_full_;
  bool over_ = false;
  std::uint64_t undecodable_ = 0;
  std::uint64_t gaps_ = 0;
  std::uint64_t timed_ = 0;
  std::chrono::nanoseconds time_{};
  std::chrono::nanoseconds most_time_{};
};

}  // namespace tenantry::detail
