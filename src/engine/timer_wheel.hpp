#pragma once
// The timers of the I/O thread: set and taken back for every command, and rarely run down.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace tenantry::detail {

/// A place in a circular list; leaves it when it is destroyed.
class timer_link {
 public:
  timer_link(const timer_link&) = delete;
  timer_link& operator=(const timer_link&) = delete;

 protected:
  timer_link() noexcept = default;
  ~timer_link() { unlink(); }

  void unlink() noexcept {
    before_->after_ = after_;
    after_->before_ = before_;
    before_ = after_ = this;
  }
  void append(timer_link& last) noexcept {
    last.before_ = before_;
    last.after_ = this;
    before_->after_ = &last;
    before_ = &last;
  }
  void forget() noexcept {
    while (!alone()) after_->unlink();
  }
  [[nodiscard]] bool alone() const noexcept { return after_ == this; }
  [[nodiscard]] timer_link* after() const noexcept { return after_; }

 private:
  timer_link* before_ = this;
  timer_link* after_ = this;
};

/// Base of what waits for a deadline. It may be destroyed while it waits.
class timer_node : public timer_link {
 public:
  [[nodiscard]] bool waiting() const noexcept { return !alone(); }

 protected:
  timer_node() noexcept = default;
  ~timer_node() = default;

 private:
  friend class timer_wheel;
  std::uint64_t tick_ = 0;
};

/// A hashed wheel of 1024 buckets of 4 ms. Inserting and removing cost the same for any number of nodes, and nothing
/// allocates. A deadline more than one turn (4 s) away is looked at once in each turn.
///
/// Never early. Late by at most 4 ms and by what the caller is late after `next_expiry`.
/// Not promised: that nodes whose deadlines passed together expire in the order of these.
///
/// Threads: one at a time, also for destroying nodes that wait.
/// Lifetime: a wheel that is destroyed forgets its nodes.
class timer_wheel {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit timer_wheel(time_point now) noexcept : begin_{now} {}
  timer_wheel(const timer_wheel&) = delete;
  timer_wheel& operator=(const timer_wheel&) = delete;
  ~timer_wheel();

  /// A node that waits already waits for the new deadline instead.
  void insert(timer_node& node, time_point deadline) noexcept;
  /// A node that does not wait is left as it is.
  void remove(timer_node& node) noexcept { node.unlink(); }

  /// When to call `advance` next; nothing when no node waits. At most 4 ms after the next deadline; may be long before
  /// it, but after the last `advance`.
  [[nodiscard]] std::optional<time_point> next_expiry(time_point now) noexcept;

  /// Takes out the nodes whose deadlines have passed and calls `on_expired` with each. It may insert, remove and
  /// destroy any node; what it inserts waits for a later call.
  template <class OnExpired>
  void advance(time_point now, OnExpired&& on_expired) {
    collect(now);
    while (timer_node* const node = take_due()) on_expired(*node);
  }

 private:
  struct list : timer_link {
    using timer_link::after;
    using timer_link::alone;
    using timer_link::append;
    using timer_link::forget;
    list() noexcept = default;
  };

  static constexpr std::chrono::milliseconds tick{4};
  static constexpr std::size_t buckets = 1024;
  static constexpr std::size_t word_bits = 64;

  [[nodiscard]] std::uint64_t tick_at_or_after(time_point when) const noexcept;
  [[nodiscard]] std::uint64_t tick_at_or_before(time_point when) const noexcept;
  [[nodiscard]] std::uint64_t next_used(std::uint64_t from, std::uint64_t to) const noexcept;
  void mark(std::uint64_t at, bool used) noexcept;
  void collect(time_point now) noexcept;
  timer_node* take_due() noexcept;

  time_point begin_;        // tick 0
  std::uint64_t done_ = 0;  // the last tick that was collected
  std::array<list, buckets> buckets_;
  std::array<std::uint64_t, buckets / word_bits> used_{};  // a bit is set where a bucket may have nodes
  list due_;
};

}  // namespace tenantry::detail
