// Which entries the near cache keeps, against two rules that everybody knows.

#include "near_table_rig.hpp"

#include <catch2/catch_get_random_seed.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <random>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace {

using namespace near_table_rig;

constexpr std::size_t room = 1000;
constexpr std::size_t popular = 10000;  // keys; those from here on are asked for once

using trace = std::vector<std::uint64_t>;

/// Requests by Zipf's law, and between them runs of keys that nobody asks for again.
trace zipf_with_scans(std::uint64_t seed, std::size_t count, std::size_t scan_every, std::size_t scan_length) {
  std::vector<double> sums;
  double sum = 0;
  for (std::size_t i = 0; i < popular; ++i) sums.push_back(sum += std::pow(static_cast<double>(i + 1), -0.99));
  std::mt19937_64 random{seed};
  std::uniform_real_distribution<double> uniform{0, sum};
  std::uint64_t once = popular;
  trace made;
  while (made.size() < count) {
    const auto key = static_cast<std::uint64_t>(std::ranges::lower_bound(sums, uniform(random)) - sums.begin());
    made.push_back(std::min<std::uint64_t>(key, popular - 1));
    if (scan_every == 0 || made.size() % scan_every != 0) continue;
    for (std::size_t i = 0; i < scan_length; ++i) made.push_back(once++);
  }
  return made;
}

/// Of the requests for popular keys.
template <class Hit>
double hit_ratio(const trace& requests, Hit hit) {
  std::size_t asked = 0;
  std::size_t hits = 0;
  for (const std::uint64_t key : requests) {
    const bool was_there = hit(key);
    if (key >= popular) continue;
    ++asked;
    hits += was_there ? 1U : 0U;
  }
  return static_cast<double>(hits) / static_cast<double>(asked);
}

double fifo(const trace& requests) {
  std::unordered_set<std::uint64_t> held;
  std::deque<std::uint64_t> order;
  return hit_ratio(requests, [&](std::uint64_t key) {
    if (!held.insert(key).second) return true;
    order.push_back(key);
    if (order.size() > room) {
      held.erase(order.front());
      order.pop_front();
    }
    return false;
  });
}

double lru(const trace& requests) {
  std::list<std::uint64_t> order;
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> held;
  return hit_ratio(requests, [&](std::uint64_t key) {
    if (const auto at = held.find(key); at != held.end()) {
      order.splice(order.begin(), order, at->second);
      return true;
    }
    order.push_front(key);
    held[key] = order.begin();
    if (order.size() > room) {
      held.erase(order.back());
      order.pop_back();
    }
    return false;
  });
}

double of_the_table(const trace& requests) {
  const std::size_t value = 880;  // so that there is a bucket for each entry, and none is evicted for want of a place
  const std::size_t bytes = room * 1040;
  table all{bytes};
  const double ratio = hit_ratio(requests, [&](std::uint64_t key) {
    near_pin pin;
    if (all.find(mixed(key), key_of(key), pin).value != nullptr) return true;
    all.insert(mixed(key), key_of(key), std::make_shared<const int>(0), value, always, none_dead);
    return false;
  });
  CHECK(all.size() <= room);  // the rules do not compare themselves with a smaller cache
  CHECK(all.size() >= room * 9 / 10);
  return ratio;
}

}  // namespace

TEST_CASE("SIEVE: with keys asked for by Zipf's law at least as many hits as LRU, and more than FIFO") {
  const auto seed = Catch::getSeed();
  const trace requests = zipf_with_scans(seed, 100000, 0, 0);
  const double ours = of_the_table(requests);
  CAPTURE(seed, ours, lru(requests), fifo(requests));
  CHECK(ours >= lru(requests));
  CHECK(ours >= fifo(requests) + 0.03);
}

TEST_CASE("SIEVE: a scan of one-time keys does not evict what is hit again and again") {
  const auto seed = Catch::getSeed();
  const trace requests = zipf_with_scans(seed, 150000, 1000, 500);
  const double ours = of_the_table(requests);
  CAPTURE(seed, ours, lru(requests), fifo(requests));
  CHECK(ours >= lru(requests) + 0.03);
  CHECK(ours >= fifo(requests) + 0.06);
}

TEST_CASE("SIEVE: what was hit stays, though everything else comes and goes") {
  table all{1U << 20U};
  for (int i = 0; i < 100; ++i) insert(all, i, 1000);
  for (int once = 1000; once < 20000; ++once) {
    insert(all, once, 1000);
    if (once % 100 != 0) continue;
    for (int i = 0; i < 100; ++i) REQUIRE(holds(all, i));
  }
  CHECK(all.evictions() > 15000);
}
