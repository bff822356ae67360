#include "messaging/feed_queue.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tenantry::detail {

feed_queue::~feed_queue() { clear(); }

bool feed_queue::full_with(std::size_t bytes) const noexcept {
  return messages_.size() >= capacity_ || bytes_ + bytes > capacity_bytes_;
}

void feed_queue::drop(published* what) noexcept {
  ++dropped_;
  what->release();
}

bool feed_queue::after_messages(const note& one) const noexcept {
  return messages_.empty() || one.position > messages_.items().back().position;
}

bool feed_queue::before_messages(const note& one) const noexcept {
  return messages_.empty() || one.position <= messages_.items().front().position;
}

/// The message of this position, which is behind all others.
void feed_queue::note_dropped_last(std::uint64_t position) {
  if (!notes_.empty() && after_messages(notes_.back())) {
    if (auto* const same = std::get_if<lagged>(&notes_.back().what)) {
      ++same->dropped;
      return;
    }
  }
  notes_.push_back({.position = position, .what = lagged{.dropped = 1}});
}

/// The message of this position, which was before all others, is no longer between the notes around it.
void feed_queue::join_notes(std::uint64_t dropped) {
  std::size_t old = 0;
  while (old < notes_.size() && before_messages(notes_[old])) ++old;
  const bool at_end = old > 0 && (old == 1 || notes_[old - 1].position <= dropped);
  if (auto* const same = at_end ? std::get_if<lagged>(&notes_[old - 1].what) : nullptr) {
    ++same->dropped;
    return;
  }
  lagged before;
  std::optional<gap> missed;
  lagged after;
  bool counted = false;
  const auto count = [&] {
    if (!std::exchange(counted, true)) ++(missed ? after : before).dropped;
  };
  for (std::size_t i = 0; i < old; ++i) {
    if (notes_[i].position > dropped) count();
    if (auto* const next = std::get_if<gap>(&notes_[i].what)) {
      if (missed) {
        missed->to = next->to;
      } else {
        missed = std::move(*next);
      }
    } else {
      (missed ? after : before).dropped += std::get<lagged>(notes_[i].what).dropped;
    }
  }
  count();
  std::vector<note> joined;
  if (before.dropped > 0) joined.push_back({.position = dropped, .what = before});
  if (missed) joined.push_back({.position = dropped, .what = std::move(*missed)});
  if (after.dropped > 0) joined.push_back({.position = dropped, .what = after});
  const auto end = notes_.erase(notes_.begin(), notes_.begin() + static_cast<std::ptrdiff_t>(old));
  notes_.insert(end, std::make_move_iterator(joined.begin()), std::make_move_iterator(joined.end()));
}

void feed_queue::drop_oldest() {
  const entry oldest = messages_.front();
  messages_.pop_front();
  bytes_ -= oldest.what->payload.size();
  join_notes(oldest.position);
  drop(oldest.what);
}

bool feed_queue::push(published* counted) {
  if (over_) {
    counted->release();
    return true;
  }
  ++received_;
  const std::uint64_t position = next_++;
  const std::size_t bytes = counted->payload.size();
  if (full_with(bytes)) {
    switch (when_full_) {
      case overflow::drop_oldest:
        if (bytes > capacity_bytes_) break;  // no room could be made: it is dropped alone
        while (full_with(bytes)) drop_oldest();
        break;
      case overflow::drop_newest:
        break;
      case overflow::disconnect:
        drop(counted);
        close({.cause = closed_cause::slow});
        return false;
    }
    if (full_with(bytes)) {
      note_dropped_last(position);
      drop(counted);
      return true;
    }
  }
  messages_.push_back({.position = position, .what = counted});
  bytes_ += bytes;
  most_queued_ = std::max<std::uint64_t>(most_queued_, messages_.size());
  return true;
}

void feed_queue::add(const gap& missed) {
  if (over_) return;
  ++gaps_;
  std::optional<std::size_t> before;
  for (std::size_t i = notes_.size(); i > 0 && after_messages(notes_[i - 1]); --i) {
    if (std::holds_alternative<gap>(notes_[i - 1].what)) before = i - 1;
  }
  if (!before) {
    notes_.push_back({.position = next_, .what = missed});
    return;
  }
  std::get<gap>(notes_[*before].what).to = missed.to;
}

void feed_queue::close(closed how) {
  if (over_) return;
  notes_.push_back({.position = next_, .what = std::move(how)});
  over_ = true;
}

void feed_queue::clear() noexcept {
  over_ = true;
  for (const entry& each : messages_.items()) drop(each.what);
  messages_.clear();
  notes_.clear();
  bytes_ = 0;
}

std::optional<feed_item> feed_queue::pop() {
  if (!notes_.empty() && (messages_.empty() || notes_.front().position <= messages_.front().position)) {
    auto what = std::move(notes_.front().what);
    notes_.erase(notes_.begin());
    return std::visit([](auto& each) { return feed_item{std::move(each)}; }, what);
  }
  if (messages_.empty()) return std::nullopt;
  published* const what = messages_.front().what;
  messages_.pop_front();
  bytes_ -= what->payload.size();
  ++delivered_;
  return feed_item{published_ref{what}};
}

void feed_queue::count_time(std::chrono::nanoseconds in_queue) noexcept {
  ++timed_;
  time_ += in_queue;
  most_time_ = std::max(most_time_, in_queue);
}

subscription_counters feed_queue::counters() const noexcept {
  return {.received = received_,
          .delivered = delivered_,
          .dropped = dropped_,
          .queued = messages_.size(),
          .queued_bytes = bytes_,
          .most_queued = most_queued_,
          .undecodable = undecodable_,
          .gaps = gaps_,
          .timed = timed_,
          .time_in_queue = time_,
          .most_time_in_queue = most_time_};
}

}  // namespace tenantry::detail
