// Threads that use one near table at the same time.

#include "near_table_rig.hpp"
#include "support/concurrency.hpp"
#include "support/sanitized.hpp"

#include <catch2/catch_get_random_seed.hpp>
#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

namespace {

using namespace near_table_rig;
using tenantry::detail::near_table;

constexpr std::uint64_t canary = 0xfeedc0ffee15600dU;
constexpr int threads = 4;

std::atomic<int> alive = 0;

/// Knows whose it is, and whether it still is.
class marked {
 public:
  explicit marked(std::uint64_t key) : key_{key}, elsewhere_{std::make_unique<std::uint64_t>(key)} { ++alive; }
  marked(marked&& from) noexcept : key_{from.key_}, elsewhere_{std::move(from.elsewhere_)} { ++alive; }
  marked& operator=(marked&&) = delete;
  ~marked() {
    canary_ = 0;
    --alive;
  }
  [[nodiscard]] bool intact(std::uint64_t key) const { return canary_ == canary && key_ == key && *elsewhere_ == key; }

 private:
  std::uint64_t canary_ = canary;
  std::uint64_t key_;
  std::unique_ptr<std::uint64_t> elsewhere_;
};

struct held {
  near_pin pin;
  const marked* value = nullptr;
  std::uint64_t key = 0;

  [[nodiscard]] bool intact() const { return value == nullptr || value->intact(key); }
};

/// Where threads leave what they hold to each other.
class exchange {
 public:
  held swap(std::size_t place, held mine) {
    const std::lock_guard locked{mutex_};
    std::swap(places_[place % places_.size()], mine);
    return mine;
  }

 private:
  std::mutex mutex_;
  std::array<held, 8> places_;
};

/// How many values were not what they should be.
int use(near_table<marked>& all, exchange& others, std::uint64_t seed, int times) {
  constexpr std::uint64_t keys = 40;
  std::mt19937_64 random{seed};
  std::vector<held> mine(6);
  int wrong = 0;
  for (int i = 0; i < times; ++i) {
    const std::uint64_t key = random() % keys;
    const auto action = random() % 16;
    if (action < 4) {
      all.insert(mixed(key), key_of(key), marked{key}, random() % 2000, always, none_dead);
    } else if (action < 6) {
      all.remove(mixed(key), key_of(key));
    } else if (action < 7) {
      all.visit(mixed(key), key_of(key), [&](const marked& value) { wrong += value.intact(key) ? 0 : 1; });
    } else if (action < 8) {
      held& one = mine[random() % mine.size()];
      one = others.swap(random(), std::move(one));
      wrong += one.intact() ? 0 : 1;
    } else {
      held found;
      found.key = key;
      found.value = all.find(mixed(key), key_of(key), found.pin).value;
      wrong += found.intact() ? 0 : 1;
      if (action >= 14) std::swap(mine[random() % mine.size()], found);
      wrong += found.intact() ? 0 : 1;
    }
  }
  for (const held& each : mine) wrong += each.intact() ? 0 : 1;
  return wrong;
}

}  // namespace

TEST_CASE("what threads find is what belongs to the key and is intact, while others insert, remove and pass on pins") {
  const auto seed = Catch::getSeed();
  CAPTURE(seed);
  constexpr int times = support::sanitized ? 20000 : 200000;
  exchange others;  // what is in it outlives the tables
  for (std::uint64_t round = 0; round < 5; ++round) {
    near_table<marked> all{20000};
    std::vector<std::future<int>> running;
    for (std::uint64_t i = 0; i < threads; ++i) {
      running.push_back(support::on_thread([&, i] { return use(all, others, seed + round * threads + i, times / 5); }));
    }
    for (auto& each : running) CHECK(each.get() == 0);
    all.reclaim();
    CHECK(all.bytes() <= 20000 + 8 * 3000);
    CHECK(all.evictions() > 0);
  }
  for (std::size_t i = 0; i < 8; ++i) CHECK(others.swap(i, {}).intact());
  near_table<marked>{20000}.reclaim();
  CHECK(alive == 0);
}

TEST_CASE("values that outlive their tables stay intact while they are held, though other threads reclaim") {
  const auto seed = Catch::getSeed();
  CAPTURE(seed);
  constexpr int times = support::sanitized ? 2000 : 20000;
  exchange others;
  std::atomic<bool> over = false;
  auto reclaims = support::on_thread([&] {
    near_table<marked> own{1000};
    while (!over) own.reclaim();
  });
  auto takes = support::on_thread([&] {
    std::mt19937_64 random{seed};
    int wrong = 0;
    while (!over) wrong += others.swap(random(), {}).intact() ? 0 : 1;
    return wrong;
  });
  std::mt19937_64 random{seed + 1};
  int missed = 0;
  int wrong = 0;
  for (int i = 0; i < times; ++i) {
    held one;
    one.key = random();
    {
      near_table<marked> brief{10000};
      brief.insert(mixed(one.key), key_of(one.key), marked{one.key}, 100, always, none_dead);
      one.value = brief.find(mixed(one.key), key_of(one.key), one.pin).value;
    }
    missed += one.value == nullptr ? 1 : 0;
    wrong += one.intact() ? 0 : 1;
    wrong += others.swap(random(), std::move(one)).intact() ? 0 : 1;
  }
  over = true;
  reclaims.get();
  CHECK(takes.get() == 0);
  CHECK(wrong == 0);
  CHECK(missed == 0);
  for (std::size_t i = 0; i < 8; ++i) CHECK(others.swap(i, {}).intact());
  near_table<marked>{1000}.reclaim();
  CHECK(alive == 0);
}

TEST_CASE("a removal that begins while an insertion is being accepted comes after it") {
  table all{100000};
  std::future<bool> removes;
  const auto accept = [&] {
    removes = support::on_thread([&] { return remove(all, 1); });
    removes.wait_for(std::chrono::milliseconds{100});  // it would end where it could
    return true;
  };
  REQUIRE(all.insert(mixed(1), key_of(1), std::make_shared<const int>(1), 100, accept, none_dead));
  CHECK(removes.get());
  CHECK_FALSE(holds(all, 1));
}

TEST_CASE("who has removed a key finds nothing older there, though another thread keeps inserting what it saw before") {
  table all{100000};
  const std::uint64_t hash = mixed(1);
  std::atomic<int> version = 0;
  std::atomic<bool> over = false;
  auto inserts = support::on_thread([&] {
    int accepted = 0;
    while (!over) {
      const int seen = version;
      auto value = std::make_shared<const int>(seen);
      accepted += all.insert(
                      hash, "k", std::move(value), 100, [&] { return version == seen; }, none_dead)
                      ? 1
                      : 0;
    }
    return accepted;
  });
  int found = 0;
  int outdated = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  constexpr int versions = support::sanitized ? 20000 : 200000;
  for (int next = 1; (next < versions || found < 100) && std::chrono::steady_clock::now() < deadline; ++next) {
    version = next;
    all.remove(hash, "k");
    for (int i = 0; i < 5; ++i) {
      near_pin pin;
      const share* const value = all.find(hash, "k", pin).value;
      if (value == nullptr) continue;
      ++found;
      outdated += **value < next ? 1 : 0;
    }
  }
  over = true;
  CHECK(inserts.get() > 0);
  CHECK(found >= 100);
  CHECK(outdated == 0);
}
