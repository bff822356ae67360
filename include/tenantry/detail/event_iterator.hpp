#pragma once
// Events one after another, in a range-based for.

#include <cstddef>
#include <iterator>
#include <optional>

namespace tenantry::detail {

/// Takes an event with `next` of its feed for each step, until there is none. Each is valid until the next one.
template <class Feed, class Event>
class event_iterator {
 public:
  using iterator_concept = std::input_iterator_tag;
  using value_type = Event;
  using difference_type = std::ptrdiff_t;

  event_iterator() = default;
  explicit event_iterator(Feed& of) : of_{&of} { ++*this; }
  Event& operator*() const { return *now_; }
  event_iterator& operator++() {
    now_ = of_->next();
    return *this;
  }
  void operator++(int) { ++*this; }
  friend bool operator==(const event_iterator& at, std::default_sentinel_t) noexcept { return !at.now_; }

 private:
  Feed* of_ = nullptr;
  mutable std::optional<Event> now_;
};

}  // namespace tenantry::detail
