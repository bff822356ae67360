#include "messaging/feed_queue.hpp"

#include <algorithm>
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

/// Where messages were dropped one after another, with nothing between them, one note tells of all.
void feed_queue::note_dropped(std::uint64_t position) {
  const auto after = std::ranges::upper_bound(notes_, position, {}, &note::position);
  if (after != notes_.begin()) {
    const auto before = std::prev(after);
    const bool kept_between = !messages_.empty() && when_full_ == overflow::drop_newest &&
                              messages_.items().back().position > before->position;
    if (auto* const same = std::get_if<lagged>(&before->what); same != nullptr && !kept_between) {
      ++same->dropped;
      return;
    }
  }
  notes_.insert(after, {.position = position, .what = lagged{.dropped = 1}});
}

void feed_queue::drop_oldest() {
  const entry oldest = messages_.front();
  messages_.pop_front();
  bytes_ -= oldest.what->payload.size();
  note_dropped(oldest.position);
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
        while (!messages_.empty() && full_with(bytes)) drop_oldest();
        break;
      case overflow::drop_newest:
        break;
      case overflow::disconnect:
        drop(counted);
        close({.cause = closed_cause::slow});
        return false;
    }
    if (full_with(bytes)) {
      note_dropped(position);
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
  notes_.push_back({.position = next_, .what = missed});
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
