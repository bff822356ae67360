// The pins of the near cache: which slots a thread gets, and that every pin is seen, wherever it went.

#include "caching/near_pins.hpp"

#include "support/concurrency.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <future>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace {

using tenantry::detail::near_pin;
using tenantry::detail::near_pins;

std::array<int, 64> things{};  // to be pinned

/// An empty one where no slot is free.
near_pin pin(const void* what) {
  near_pin::slot* const slot = near_pins::free_slot();
  if (slot != nullptr) slot->store(what);
  return near_pin{slot};
}

/// All that a thread can have at a time.
std::vector<near_pin> all_pins() {
  std::vector<near_pin> held;
  while (near_pin each = pin(&things[held.size()])) held.push_back(std::move(each));
  return held;
}

std::size_t times_pinned(const void* what) {
  std::vector<const void*> in_use;
  near_pins::collect(in_use);
  CHECK(std::ranges::is_sorted(in_use));
  return static_cast<std::size_t>(std::ranges::count(in_use, what));
}

template <class Action>
auto in_a_thread_that_ends(Action action) {
  std::packaged_task<decltype(action())()> task{std::move(action)};
  auto result = task.get_future();
  std::thread{std::move(task)}.join();
  return result.get();
}

near_pin::slot* first_slot() {
  return in_a_thread_that_ends([] { return near_pins::free_slot(); });
}

}  // namespace

TEST_CASE("a thread has sixteen slots, each of which is free until it is set, and again when it is given back") {
  near_pin::slot* const first = near_pins::free_slot();
  REQUIRE(first != nullptr);
  CHECK(near_pins::free_slot() == first);
  auto held = all_pins();
  CHECK(held.size() == near_pins::per_thread);
  CHECK(near_pins::free_slot() == nullptr);
  held.erase(held.begin() + 5);
  CHECK(times_pinned(&things[5]) == 0);
  held.push_back(pin(&things[20]));
  CHECK(held.back());
  CHECK(times_pinned(&things[20]) == 1);
  CHECK(near_pins::free_slot() == nullptr);
  held.clear();
  CHECK(all_pins().size() == near_pins::per_thread);
}

TEST_CASE("what stands in a slot of any thread is collected, until it is given back by any other") {
  support::gate done;
  const support::opens_at_end always{done};
  std::vector<std::future<bool>> threads;
  std::array<std::promise<near_pin>, 4> pinned;
  for (std::size_t i = 0; i < pinned.size(); ++i) {
    threads.push_back(support::on_thread([&, i] {
      const near_pin stays = pin(&things[30 + i]);
      pinned[i].set_value(pin(&things[40 + i]));
      return done.wait();
    }));
  }
  std::vector<near_pin> moved;
  moved.reserve(pinned.size());
  for (auto& each : pinned) moved.push_back(each.get_future().get());
  for (std::size_t i = 0; i < pinned.size(); ++i) {
    CHECK(times_pinned(&things[30 + i]) == 1);
    CHECK(times_pinned(&things[40 + i]) == 1);
  }
  moved.clear();
  for (std::size_t i = 0; i < pinned.size(); ++i) {
    CHECK(times_pinned(&things[30 + i]) == 1);
    CHECK(times_pinned(&things[40 + i]) == 0);
  }
  done.open();
  for (auto& each : threads) CHECK(each.get());
  for (std::size_t i = 0; i < pinned.size(); ++i) CHECK(times_pinned(&things[30 + i]) == 0);
}

TEST_CASE("slots of a thread that ended are used again") {
  std::set<near_pin::slot*> seen;
  for (int i = 0; i < 50; ++i) seen.insert(first_slot());
  CHECK(seen.size() == 1);
}

TEST_CASE("a pin that outlives its thread is seen, and its slot is left to it") {
  near_pin::slot* const before = first_slot();
  const auto count = [] { return all_pins().size(); };
  {
    const near_pin moved = in_a_thread_that_ends([] { return pin(&things[50]); });
    CHECK(in_a_thread_that_ends(count) == near_pins::per_thread - 1);
    CHECK(times_pinned(&things[50]) == 1);
  }
  CHECK(times_pinned(&things[50]) == 0);
  CHECK(first_slot() == before);
  CHECK(in_a_thread_that_ends(count) == near_pins::per_thread);
}

TEST_CASE("a thread does not begin with slots that are mostly taken") {
  const auto moved = in_a_thread_that_ends([] { return all_pins(); });
  CHECK(moved.size() == near_pins::per_thread);
  CHECK(in_a_thread_that_ends([] { return all_pins().size(); }) == near_pins::per_thread);
  CHECK(times_pinned(&things[0]) == 1);
}

TEST_CASE("a thread that is ending pins too, and keeps the slots that it takes then") {
  struct late {
    near_pin::slot** at;
    bool* seen;
    ~late() {
      *at = near_pins::free_slot();
      const near_pin held{*at};
      if (held) (*at)->store(&things[60]);
      std::vector<const void*> in_use;
      near_pins::collect(in_use);
      *seen = std::ranges::binary_search(in_use, static_cast<const void*>(&things[60]));
    }
  };
  near_pin::slot* taken_late = nullptr;
  bool seen = false;
  in_a_thread_that_ends([&] {
    thread_local const late one{.at = &taken_late, .seen = &seen};  // before the slots: destroyed after them
    return pin(&one) ? 0 : 1;
  });
  CHECK(seen);
  CHECK(times_pinned(&things[60]) == 0);
  REQUIRE(taken_late != nullptr);
  near_pin::slot* const later = first_slot();
  CHECK((later < taken_late - near_pins::per_thread || later > taken_late + near_pins::per_thread));
}
