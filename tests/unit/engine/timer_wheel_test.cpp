// A wheel against a sorted list of deadlines.

#include "engine/timer_wheel.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <support/allocation_counter.hpp>
#include <support/random_bytes.hpp>
#include <vector>

namespace {

using namespace std::chrono_literals;
using tenantry::detail::timer_node;
using tenantry::detail::timer_wheel;
using time_point = timer_wheel::time_point;

constexpr time_point start{1'000'000'123ns};

struct timer : timer_node {
  explicit timer(int which = 0) : number{which} {}
  int number;
};

std::vector<int> expired(timer_wheel& wheel, time_point now) {
  std::vector<int> numbers;
  wheel.advance(now, [&](timer_node& node) { numbers.push_back(static_cast<timer&>(node).number); });
  return numbers;
}

/// Everything that can happen to a wheel, at random, next to a model that does the same with a multimap.
class schedule {
 public:
  explicit schedule(support::random_bytes& random) : random_{random} {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      check_next_expiry();
    }
    // All that is left expires, driven by next_expiry alone.
    while (const auto next = wheel_.next_expiry(now_)) {
      REQUIRE(*next > now_);
      now_ = *next;
      advance();
    }
    REQUIRE(model_.empty());
  }

 private:
  struct entry {
    int number;
    time_point due;  // the deadline, or when it was inserted if that was later
  };

  void step() {
    switch (random_.below(8)) {
      case 0:
      case 1:
      case 2:
        insert();
        break;
      case 3:
        remove();
        break;
      case 4:
        if (const auto next = wheel_.next_expiry(now_)) now_ = *next;
        advance();
        break;
      default:
        now_ += random_.below(50) == 0 ? std::chrono::microseconds{random_.below(15'000'000)}
                                       : std::chrono::microseconds{random_.below(9'000)};
        advance();
    }
  }

  time_point some_deadline() {
    switch (random_.below(6)) {
      case 0:
        return now_ - std::chrono::microseconds{random_.below(10'000)};
      case 1:
        return now_ + std::chrono::microseconds{random_.below(20'000'000)};
      case 2:
        return start + 4ms * static_cast<int>(random_.below(5'000));
      default:
        return now_ + std::chrono::microseconds{random_.below(100'000)};
    }
  }

  void insert() {
    const time_point deadline = some_deadline();
    int number = 0;
    if (!timers_.empty() &&
        random_.below(4) == 0) {  // one that waits gets another deadline, one that has expired a new
      number = static_cast<int>(random_.below(timers_.size()));
      forget(number);
    } else {
      number = static_cast<int>(timers_.size());
      timers_.push_back(nullptr);
    }
    auto& place = timers_[static_cast<std::size_t>(number)];
    if (!place) place = std::make_unique<timer>(number);
    wheel_.insert(*place, deadline);
    REQUIRE(place->waiting());
    model_.emplace(deadline, entry{number, std::max(deadline, now_)});
  }

  void remove() {
    if (timers_.empty()) return;
    const std::size_t number = random_.below(timers_.size());
    if (!timers_[number]) return;
    forget(static_cast<int>(number));
    if (random_.below(2) == 0) {
      timers_[number].reset();
    } else {
      wheel_.remove(*timers_[number]);
      REQUIRE_FALSE(timers_[number]->waiting());
    }
  }

  void forget(int number) {
    std::erase_if(model_, [number](const auto& each) { return each.second.number == number; });
  }

  void advance() {
    wheel_.advance(now_, [this](timer_node& node) {
      const int number = static_cast<timer&>(node).number;
      const auto found = std::ranges::find_if(model_, [&](const auto& each) { return each.second.number == number; });
      REQUIRE(found != model_.end());  // once, and not after it was removed
      REQUIRE(found->first <= now_);   // never early
      REQUIRE_FALSE(node.waiting());
      model_.erase(found);
      if (random_.below(4) == 0) insert();
      if (random_.below(4) == 0) remove();
      if (random_.below(8) == 0) timers_[static_cast<std::size_t>(number)].reset(), forget(number);
    });
    for (const auto& [deadline, each] : model_) REQUIRE(each.due > now_ - 4ms);  // none is left over
  }

  void check_next_expiry() {
    const auto next = wheel_.next_expiry(now_);
    REQUIRE(next.has_value() == !model_.empty());
    if (!next) return;
    time_point first = time_point::max();
    for (const auto& [deadline, each] : model_) first = std::min(first, each.due);
    REQUIRE(*next <= std::max(first, now_) + 4ms);
    REQUIRE(*next >= now_);
  }

  support::random_bytes& random_;
  time_point now_ = start;
  timer_wheel wheel_{start};
  std::vector<std::unique_ptr<timer>> timers_;
  std::multimap<time_point, entry> model_;
};

}  // namespace

TEST_CASE("timers behave like a sorted list of deadlines under random schedules") {
  support::random_bytes random;
  for (int round = 0; round < 60; ++round) schedule{random}.run(400);
}

TEST_CASE("a wheel without nodes has nothing to wait for") {
  timer_wheel wheel{start};
  CHECK_FALSE(wheel.next_expiry(start).has_value());
  CHECK(expired(wheel, start + 1h).empty());
}

TEST_CASE("a timer expires at its deadline or up to 4 ms after, and never before") {
  for (const auto away : std::vector<std::chrono::nanoseconds>{1ns, 1ms, 4ms - 1ns, 4ms, 4ms + 1ns, 4095ms, 4096ms,
                                                               4097ms, 8192ms, 60s, 24h}) {
    CAPTURE(away.count());
    timer_wheel wheel{start};
    timer one{7};
    wheel.insert(one, start + away);
    CHECK(expired(wheel, start + away - 1ns).empty());
    CHECK(one.waiting());
    CHECK(expired(wheel, start + away + 4ms) == std::vector{7});
    CHECK_FALSE(one.waiting());
    CHECK(expired(wheel, start + away + 1h).empty());
  }
}

TEST_CASE("a caller that follows next_expiry is at most 4 ms late and never called in vain twice") {
  for (const auto away : std::vector<std::chrono::nanoseconds>{1ns, 3ms, 5ms, 1s, 4096ms, 10s}) {
    CAPTURE(away.count());
    const time_point begin = start + 3h;
    timer_wheel wheel{start};
    timer one;
    expired(wheel, begin);
    wheel.insert(one, begin + away);
    int calls = 0;
    time_point now = begin;
    while (one.waiting()) {
      now = wheel.next_expiry(now).value();
      expired(wheel, now);
      ++calls;
    }
    CHECK(now >= begin + away);
    CHECK(now <= begin + away + 4ms);
    CHECK(calls <= 1 + away / 4s);  // once for each turn
  }
}

TEST_CASE("a deadline that has passed already expires with the next tick") {
  timer_wheel wheel{start};
  expired(wheel, start + 10s);
  timer one{1};
  timer two{2};
  wheel.insert(one, start);
  wheel.insert(two, time_point::min());
  CHECK(wheel.next_expiry(start + 10s).value() <= start + 10s + 4ms);
  CHECK(expired(wheel, start + 10s + 4ms) == std::vector{1, 2});
}

TEST_CASE("a deadline that never comes does not expire") {
  timer_wheel wheel{start};
  timer one;
  wheel.insert(one, time_point::max());
  CHECK(expired(wheel, start + 24h * 365).empty());
  CHECK(one.waiting());
}

TEST_CASE("a removed or destroyed timer wakes nobody") {
  timer_wheel wheel{start};
  timer one;
  wheel.insert(one, start + 20ms);
  {
    timer two;
    wheel.insert(two, start + 20ms);
    wheel.insert(two, start + 40ms);
  }
  wheel.remove(one);
  wheel.remove(one);
  CHECK_FALSE(wheel.next_expiry(start).has_value());
  CHECK(expired(wheel, start + 1s).empty());
}

TEST_CASE("a timer may take back others that expire with it") {
  timer_wheel wheel{start};
  timer one{1};
  auto two = std::make_unique<timer>(2);
  timer three{3};
  timer four{4};
  for (timer* each : {&one, two.get(), &three, &four}) wheel.insert(*each, start + 5ms);
  std::vector<int> seen;
  wheel.advance(start + 20ms, [&](timer_node& node) {
    seen.push_back(static_cast<timer&>(node).number);
    if (seen.size() > 1) return;
    two.reset();
    wheel.remove(three);
  });
  CHECK(seen == std::vector{1, 4});
}

TEST_CASE("a timer that sets itself again in the past does not hold up the wheel") {
  timer_wheel wheel{start};
  timer one;
  wheel.insert(one, start);
  for (int round = 1; round <= 3; ++round) {
    int calls = 0;
    wheel.advance(start + 8ms * round, [&](timer_node& node) {
      ++calls;
      wheel.insert(node, start);
    });
    CHECK(calls == 1);
  }
}

TEST_CASE("what is left when on_expired throws expires with the next call") {
  timer_wheel wheel{start};
  timer one{1};
  timer two{2};
  wheel.insert(one, start + 1ms);
  wheel.insert(two, start + 1ms);
  CHECK_THROWS_AS(wheel.advance(start + 4ms, [](timer_node&) { throw 1; }), int);
  CHECK(wheel.next_expiry(start + 5ms) == start + 5ms);
  CHECK(expired(wheel, start + 5ms) == std::vector{2});
}

TEST_CASE("timers that outlive their wheel wait no longer") {
  timer one;
  timer two;
  {
    timer_wheel wheel{start};
    wheel.insert(one, start + 1s);
    wheel.insert(two, start + 1s);
  }
  CHECK_FALSE(one.waiting());
  CHECK_FALSE(two.waiting());
}

TEST_CASE("a wheel allocates nothing") {
  timer_wheel wheel{start};
  std::vector<timer> timers(100);
  const support::allocation_counter counter;
  for (timer& each : timers) wheel.insert(each, start + 10ms);
  wheel.remove(timers[50]);
  int count = 0;
  wheel.advance(start + 1s, [&](timer_node&) { ++count; });
  const std::size_t allocated = counter.count();
  CHECK(count == 99);
  CHECK(allocated == 0);
}
