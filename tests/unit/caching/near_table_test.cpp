// The memory of the near cache: what is found, what is evicted, how much it takes, and when a value is destroyed.

#include "caching/near_table.hpp"

#include "near_table_rig.hpp"
#include "support/allocation_counter.hpp"
#include "support/concurrency.hpp"

#include <catch2/catch_get_random_seed.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace near_table_rig;
using tenantry::detail::near_pins;
using tenantry::detail::near_table;

constexpr std::size_t bound = std::size_t{1} << 20U;

/// Under a hash that all of them have.
bool insert_crowded(table& into, const std::string& key, int value) {
  return into.insert(7, key, std::make_shared<const int>(value), 100, always,
                     [](const share& each) { return *each < 0; });
}

std::optional<int> find_crowded(const table& in, const std::string& key) {
  near_pin pin;
  const share* const value = in.find(7, key, pin).value;
  return value != nullptr ? std::optional{**value} : std::nullopt;
}

}  // namespace

TEST_CASE("what was inserted is found under its key, until it is removed") {
  table all{bound};
  CHECK_FALSE(holds(all, 1));
  CHECK_FALSE(remove(all, 1));
  for (int i = 0; i < 500; ++i) insert(all, i);
  for (int i = 0; i < 500; ++i) CHECK(holds(all, i));
  CHECK(all.size() == 500);
  for (int i = 0; i < 500; i += 2) CHECK(remove(all, i));
  for (int i = 0; i < 500; ++i) CHECK(holds(all, i) == (i % 2 == 1));
  CHECK(all.size() == 250);
  CHECK(all.evictions() == 0);
}

TEST_CASE("an insertion replaces the entry of the same key") {
  table all{bound};
  const auto first = insert(all, 1);
  const std::size_t one = all.bytes();
  const auto second = insert(all, 1);
  CHECK(all.size() == 1);
  CHECK(all.evictions() == 0);
  all.reclaim();
  CHECK(first.expired());
  CHECK_FALSE(second.expired());
  CHECK(all.bytes() == one);
}

TEST_CASE("keys of an equal hash do not shadow each other") {
  table all{bound};
  const std::vector<std::string> keys{"", "a", "b", "ab", std::string{"a\0", 2}, std::string(1000, 'a')};
  for (std::size_t i = 0; i < keys.size(); ++i) REQUIRE(insert_crowded(all, keys[i], static_cast<int>(i)));
  for (std::size_t i = 0; i < keys.size(); ++i) CHECK(find_crowded(all, keys[i]) == static_cast<int>(i));
  CHECK(all.remove(7, "b"));
  CHECK_FALSE(all.remove(7, "b"));
  for (const auto& key : keys) CHECK(find_crowded(all, key).has_value() == (key != "b"));
  CHECK_FALSE(find_crowded(all, "c"));
}

TEST_CASE("a key is not taken for another one whose bucket and tag are the same, and the hash is not") {
  table all{bound};
  const std::uint64_t near = mixed(1);
  const std::uint64_t like = near ^ (std::uint64_t{1} << 32U);
  REQUIRE(all.insert(near, "k", std::make_shared<const int>(1), 100, always, none_dead));
  near_pin pin;
  CHECK(all.find(like, "k", pin).value == nullptr);
  CHECK_FALSE(pin);
  CHECK_FALSE(all.remove(like, "k"));
}

TEST_CASE("a full bucket gives up an entry that nobody found") {
  table all{bound};
  for (const char* key : {"a", "b", "c", "d", "e", "f"}) insert_crowded(all, key, 1);
  for (const char* key : {"a", "b", "d", "e", "f"}) CHECK(find_crowded(all, key));
  CHECK(insert_crowded(all, "g", 2));
  CHECK(all.evictions() == 1);
  CHECK_FALSE(find_crowded(all, "c"));
  for (const char* key : {"a", "b", "d", "e", "f", "g"}) CHECK(find_crowded(all, key));
  CHECK(insert_crowded(all, "h", 3));  // all were found
  CHECK(all.evictions() == 2);
  CHECK(all.size() == 6);
  CHECK(find_crowded(all, "h") == 3);
}

TEST_CASE("a full bucket gives up a worthless entry first, also one that was found") {
  table all{bound};
  for (const char* key : {"a", "b", "c", "d", "e", "f"}) insert_crowded(all, key, *key == 'e' ? -1 : 1);
  CHECK(find_crowded(all, "e"));
  insert_crowded(all, "g", 2);
  CHECK_FALSE(find_crowded(all, "e"));
  for (const char* key : {"a", "b", "c", "d", "f", "g"}) CHECK(find_crowded(all, key));
}

TEST_CASE("an insertion that is not accepted changes nothing") {
  table all{bound};
  insert(all, 1);
  const std::size_t before = all.bytes();
  auto refused = std::make_shared<const int>(2);
  const std::weak_ptr<const int> end = refused;
  CHECK_FALSE(all.insert(
      mixed(1), key_of(1), std::move(refused), 100, [] { return false; }, none_dead));
  CHECK(end.expired());
  CHECK(holds(all, 1));
  const auto throws = []() -> bool { throw std::runtime_error{"accept"}; };
  CHECK_THROWS_AS(all.insert(mixed(1), key_of(1), share{}, 100, throws, none_dead), std::runtime_error);
  CHECK(holds(all, 1));
  CHECK_FALSE(all.insert(
      mixed(2), key_of(2), share{}, 100, [] { return false; }, none_dead));
  CHECK_FALSE(holds(all, 2));
  CHECK(all.size() == 1);
  CHECK(all.bytes() == before);
}

TEST_CASE("what is larger than a quarter of the bound is not taken, and evicts nothing") {
  table all{bound};
  insert(all, 1);
  CHECK(insert(all, 2, bound / 4).expired());
  CHECK(insert(all, 3, SIZE_MAX - 50).expired());
  CHECK_FALSE(all.insert(mixed(4), std::string(bound / 4, 'k'), share{}, 1, always, none_dead));
  CHECK(holds(all, 1));
  CHECK(all.size() == 1);
  CHECK_FALSE(insert(all, 5, bound / 4 - 1000).expired());
  for (const std::size_t tiny : {std::size_t{0}, std::size_t{1000}, std::size_t{1200}}) {
    table small{tiny};
    insert(small, 1, 200);
    CHECK(small.size() == 0);
  }
}

TEST_CASE("the bytes never exceed the bound by more than what is pinned or retired") {
  const auto seed = Catch::getSeed();
  CAPTURE(seed);
  std::mt19937_64 random{seed};
  table all{bound};
  constexpr std::size_t small = 2000;
  const std::size_t empty = all.bytes();
  CHECK(empty <= bound / 15);
  std::vector<near_pin> pins(8);
  std::size_t largest = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::size_t bytes = random() % 100 == 0 ? random() % (bound / 5) : random() % small;
    largest = std::max(largest, bytes);
    insert(all, static_cast<int>(random() % 5000), bytes);
    near_pin pin;
    if (find(all, static_cast<int>(random() % 5000), pin) != nullptr && i % 10 == 0)
      pins[random() % 8] = std::move(pin);
    if (i % 7 == 0) remove(all, static_cast<int>(random() % 5000));
    if (i % 100 == 0) {
      all.reclaim();
      REQUIRE(all.bytes() <= bound + pins.size() * (largest + 300));
    }
    // Of 16 shards 1/128 each, and what was removed since the last insertion there.
    REQUIRE(all.bytes() <= bound + bound / 8 + 16 * small + pins.size() * (largest + 300) + largest);
  }
  pins.clear();
  all.reclaim();
  CHECK(all.bytes() <= bound);
  CHECK(all.bytes() >= bound / 2);  // the last large entries may have left
  for (int i = 0; i < 5000; ++i) remove(all, i);
  CHECK(all.size() == 0);
  all.reclaim();
  CHECK(all.bytes() == empty);
}

TEST_CASE("an insertion takes room from other shards where its own is empty") {
  table all{bound};
  for (int i = 0; i < 4000; ++i) insert(all, i, 1000);
  const std::uint64_t lonely = 0;  // of the first bucket and so of the first shard
  for (int i = 0; i < 4; ++i) {
    const std::string key = "large:" + std::to_string(i);
    REQUIRE(all.insert(lonely, key, std::make_shared<const int>(i), bound / 5, always, none_dead));
    all.reclaim();
    CHECK(all.bytes() <= bound);
  }
  CHECK(all.size() > 0);
}

TEST_CASE("a worthless entry is evicted before the others, also when it was found") {
  table all{bound};
  const auto odd_is_dead = [](const share& each) { return *each % 2 == 1; };
  const int old = 400;
  for (int i = 0; i < old; ++i) insert(all, i, 1000);
  for (int i = 0; i < old; ++i) REQUIRE(holds(all, i));
  for (std::uint64_t i = 10000; all.evictions() < 50; ++i) {
    all.insert(mixed(i), key_of(i), std::make_shared<const int>(0), 1000, always, odd_is_dead);
  }
  int left = 0;
  for (int i = 0; i < old; ++i) {
    const bool held = holds(all, i);
    if (i % 2 == 0) CHECK(held);
    left += held ? 1 : 0;
  }
  CHECK(left == old - 50);
}

TEST_CASE("a value that is pinned outlives its removal, and is destroyed after the pin is gone") {
  table all{bound};
  const auto end = insert(all, 1);
  near_pin pin;
  const share* const value = find(all, 1, pin);
  REQUIRE(value != nullptr);
  REQUIRE(remove(all, 1));
  CHECK_FALSE(holds(all, 1));
  for (int i = 2; i < 2000; ++i) {  // and others come and go
    insert(all, i);
    remove(all, i);
  }
  all.reclaim();
  REQUIRE_FALSE(end.expired());
  CHECK(**value == 1);
  near_pin moved = std::move(pin);
  all.reclaim();
  CHECK_FALSE(end.expired());
  moved = near_pin{};
  CHECK_FALSE(end.expired());  // giving a pin back destroys nothing
  all.reclaim();
  CHECK(end.expired());
}

TEST_CASE("what insertions evict they destroy, without being asked to") {
  table all{bound};
  std::vector<std::weak_ptr<const int>> ends;
  ends.reserve(20000);
  for (int i = 0; i < 20000; ++i) ends.push_back(insert(all, i, 500));
  const auto alive =
      static_cast<std::size_t>(std::ranges::count_if(ends, [](const auto& each) { return !each.expired(); }));
  CHECK(alive >= all.size());
  CHECK(alive <= all.size() + 16 * std::size_t{32});
}

TEST_CASE("remove destroys nothing on its thread, and allocates nothing") {
  struct recorded {
    recorded(std::thread::id* where, std::size_t* count) : at{where}, times{count} {}
    recorded(recorded&& from) noexcept : at{std::exchange(from.at, nullptr)}, times{from.times} {}
    recorded& operator=(recorded&&) = delete;
    ~recorded() {
      if (at == nullptr) return;
      *at = std::this_thread::get_id();
      ++*times;
    }
    std::thread::id* at;
    std::size_t* times;
  };
  std::thread::id at;
  std::size_t times = 0;
  near_table<recorded> all{bound};
  const auto insert_one = [&](std::uint64_t i) {
    all.insert(mixed(i), key_of(i), {&at, &times}, 100, always, none_dead);
  };
  for (std::uint64_t i = 0; i < 1000; ++i) insert_one(i);
  std::vector<std::string> keys;
  for (std::uint64_t i = 0; i < 1000; ++i) keys.push_back(key_of(i));
  const auto allocated = support::on_thread([&] {
                           const support::allocation_counter allocations;
                           for (std::uint64_t i = 0; i < 1000; ++i) all.remove(mixed(i), keys[i]);
                           return allocations.count();
                         }).get();
  if (support::allocation_counter::works) CHECK(allocated == 0);
  CHECK(all.size() == 0);
  CHECK(times == 0);
  for (std::uint64_t i = 0; i < 1000; ++i) insert_one(i);
  CHECK(times == 1000);
  CHECK(at == std::this_thread::get_id());
}

TEST_CASE("a value may use the table while it is destroyed") {
  struct reentrant {
    explicit reentrant(near_table<reentrant>* in) : table{in} {}
    reentrant(reentrant&& from) noexcept : table{std::exchange(from.table, nullptr)} {}
    reentrant& operator=(reentrant&&) = delete;
    ~reentrant() {
      if (table == nullptr) return;
      for (std::uint64_t i = 0; i < 64; ++i) table->remove(mixed(i), "k");
      (void)table->size();
    }
    near_table<reentrant>* table;
  };
  near_table<reentrant> all{bound};
  for (std::uint64_t i = 0; i < 5000; ++i) all.insert(mixed(i), "k", reentrant{&all}, 500, always, none_dead);
  all.insert(
      mixed(1), "k", reentrant{&all}, 500, [] { return false; }, none_dead);
  for (std::uint64_t i = 0; i < 5000; ++i) all.remove(mixed(i), "k");
  all.reclaim();
  CHECK(all.size() == 0);
}

TEST_CASE("with more than 16 hits held by one thread, the value is seen under a lock instead") {
  table all{bound};
  insert(all, 1);
  std::vector<near_pin> held(near_pins::per_thread);
  for (auto& each : held) REQUIRE(find(all, 1, each) != nullptr);
  near_pin pin;
  const auto found = all.find(mixed(1), key_of(1), pin);
  CHECK(found.value == nullptr);
  CHECK(found.out_of_pins);
  CHECK_FALSE(pin);
  int seen = 0;
  CHECK(all.visit(mixed(1), key_of(1), [&](const share& value) { seen = *value; }));
  CHECK(seen == 1);
  CHECK_FALSE(all.visit(mixed(2), key_of(2), [&](const share&) { seen = 2; }));
  CHECK(seen == 1);
  CHECK_FALSE(all.find(mixed(2), key_of(2), pin).out_of_pins);  // no entry has its tag: it is not there
  CHECK(support::on_thread([&] { return holds(all, 1); }).get());
  held.pop_back();
  CHECK(find(all, 1, pin) != nullptr);
}

TEST_CASE("a value that outlives the table is destroyed later, by any other") {
  std::optional<table> first{bound};
  const auto pinned = insert(*first, 1);
  const auto removed = insert(*first, 2);
  const auto other = insert(*first, 3);
  near_pin pin;
  near_pin pin_of_removed;
  const share* const value = find(*first, 1, pin);
  REQUIRE(find(*first, 2, pin_of_removed) != nullptr);
  REQUIRE(remove(*first, 2));
  first.reset();
  CHECK(other.expired());
  table second{bound};
  second.reclaim();
  REQUIRE_FALSE(pinned.expired());
  CHECK(**value == 1);
  CHECK_FALSE(removed.expired());
  pin_of_removed = near_pin{};
  second.reclaim();
  CHECK(removed.expired());
  CHECK_FALSE(pinned.expired());
  pin = near_pin{};
  { const table third{bound}; }  // its end
  CHECK(pinned.expired());
}
