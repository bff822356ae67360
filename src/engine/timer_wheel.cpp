#include "engine/timer_wheel.hpp"

#include <algorithm>
#include <bit>

namespace tenantry::detail {

timer_wheel::~timer_wheel() {
  for (list& bucket : buckets_) bucket.forget();
  due_.forget();
}

std::uint64_t timer_wheel::tick_at_or_before(time_point when) const noexcept {
  return when <= begin_ ? 0 : static_cast<std::uint64_t>((when - begin_) / tick);
}

std::uint64_t timer_wheel::tick_at_or_after(time_point when) const noexcept {
  if (when <= begin_) return 0;
  const auto away = when - begin_;
  return static_cast<std::uint64_t>(away / tick) + (away % tick > time_point::duration::zero() ? 1 : 0);
}

void timer_wheel::mark(std::uint64_t at, bool used) noexcept {
  const std::size_t bucket = at % buckets;
  const std::uint64_t bit = std::uint64_t{1} << (bucket % word_bits);
  if (used) {
    used_[bucket / word_bits] |= bit;
  } else {
    used_[bucket / word_bits] &= ~bit;
  }
}

/// The first tick from `from` to `to` whose bucket is marked, or the one after `to`.
std::uint64_t timer_wheel::next_used(std::uint64_t from, std::uint64_t to) const noexcept {
  while (from <= to) {
    const std::size_t bucket = from % buckets;
    const std::uint64_t rest = used_[bucket / word_bits] >> (bucket % word_bits);
    if (rest != 0) return std::min(from + static_cast<std::uint64_t>(std::countr_zero(rest)), to + 1);
    from += word_bits - bucket % word_bits;
  }
  return to + 1;
}

void timer_wheel::insert(timer_node& node, time_point deadline) noexcept {
  node.unlink();
  node.tick_ = std::max(tick_at_or_after(deadline), done_ + 1);
  buckets_[node.tick_ % buckets].append(node);
  mark(node.tick_, true);
}

std::optional<timer_wheel::time_point> timer_wheel::next_expiry(time_point now) noexcept {
  if (!due_.alone()) return now;
  const std::uint64_t last = done_ + buckets;
  for (std::uint64_t at = next_used(done_ + 1, last); at <= last; at = next_used(at + 1, last)) {
    if (!buckets_[at % buckets].alone()) return std::max(now, begin_ + tick * static_cast<std::int64_t>(at));
    mark(at, false);  // its nodes were removed
  }
  return std::nullopt;
}

void timer_wheel::collect(time_point now) noexcept {
  const std::uint64_t until = tick_at_or_before(now);
  if (until <= done_) return;
  const std::uint64_t last = std::min(until, done_ + buckets);
  for (std::uint64_t at = next_used(done_ + 1, last); at <= last; at = next_used(at + 1, last)) {
    list& bucket = buckets_[at % buckets];
    for (timer_link* link = bucket.after(); link != &bucket;) {
      auto& node = static_cast<timer_node&>(*link);
      link = node.after();
      if (node.tick_ > until) continue;  // of a later turn
      node.unlink();
      due_.append(node);
    }
    if (bucket.alone()) mark(at, false);
  }
  done_ = until;
}

timer_node* timer_wheel::take_due() noexcept {
  if (due_.alone()) return nullptr;
  auto& node = static_cast<timer_node&>(*due_.after());
  node.unlink();
  return &node;
}

}  // namespace tenantry::detail
