// The bounds of jitter.

#include "support/concurrency.hpp"
#include "support/random_bytes.hpp"

#include <tenantry/detail/ttl.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <set>

namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using tenantry::detail::jittered;
using tenantry::detail::random_unit;

static_assert(jittered(1000ms, 0.1, 0.0) == 1000ms);
static_assert(jittered(1000ms, 0.5, 1.0) == 500ms);
static_assert(jittered(1000ms, 0.5, 0.5) == 750ms);
static_assert(jittered(1000ms, 0.0, 1.0) == 1000ms);

}  // namespace

TEST_CASE("a time with jitter is above (1 - jitter) of the ttl and never above the ttl, in 10000 samples of each") {
  support::random_bytes random;
  for (const milliseconds ttl : {10ms, 999ms, milliseconds{1min}, milliseconds{5min}, milliseconds{24h * 365}}) {
    for (const double jitter : {0.01, 0.1, 0.5, 0.99}) {
      milliseconds least = milliseconds::max();
      milliseconds most = milliseconds::min();
      for (int i = 0; i < 10'000; ++i) {
        const double unit = static_cast<double>(random.below(1U << 30U)) / static_cast<double>(1U << 30U);
        const milliseconds life = jittered(ttl, jitter, unit);
        least = std::min(least, life);
        most = std::max(most, life);
      }
      INFO("ttl " << ttl.count() << " ms, jitter " << jitter);
      const double floor = static_cast<double>(ttl.count()) * (1 - jitter);
      CHECK(static_cast<double>(least.count()) > floor);
      CHECK(most <= ttl);
      // The whole span is used, as far as milliseconds allow.
      CHECK(static_cast<double>(least.count()) <=
            floor + std::max(1.0, static_cast<double>(ttl.count()) * jitter * 0.01));
      CHECK(static_cast<double>(most.count()) >= static_cast<double>(ttl.count()) * (1 - jitter * 0.01) - 1);
    }
  }
}

TEST_CASE("without jitter the ttl is exact") {
  support::random_bytes random;
  for (int i = 0; i < 10'000; ++i) {
    const milliseconds ttl{1 + static_cast<milliseconds::rep>(random.below(1'000'000'000))};
    REQUIRE(jittered(ttl, 0.0, random_unit()) == ttl);
  }
}

TEST_CASE("jitter never makes a time of 1 ms or more less than 1 ms") {
  const double just_below_one = std::nextafter(1.0, 0.0);
  for (milliseconds ttl = 1ms; ttl < 50ms; ++ttl) {
    for (const double unit : {0.0, 0.5, 1.0}) {
      CHECK(jittered(ttl, just_below_one, unit) >= 1ms);
      CHECK(jittered(ttl, just_below_one, unit) <= ttl);
    }
  }
}

TEST_CASE("the longest time of all does not overflow") {
  const double just_below_one = std::nextafter(1.0, 0.0);
  CHECK(jittered(milliseconds::max(), 0.0, 1.0) == milliseconds::max());
  for (const double unit : {0.0, 0.5, just_below_one, 1.0}) {
    CHECK(jittered(milliseconds::max(), just_below_one, unit) >= 1ms);
    CHECK(jittered(milliseconds::max(), 0.1, unit) > milliseconds::max() / 10 * 8);
  }
}

TEST_CASE("random units are from 0 to 1 and spread evenly") {
  std::array<int, 10> tenths{};
  for (int i = 0; i < 10'000; ++i) {
    const double unit = random_unit();
    REQUIRE(unit >= 0.0);
    REQUIRE(unit <= 1.0);
    ++tenths[std::min<std::size_t>(static_cast<std::size_t>(unit * 10), 9)];
  }
  for (const int count : tenths) {  // 1000 expected, standard deviation 30
    CHECK(count > 800);
    CHECK(count < 1200);
  }
}

TEST_CASE("two threads do not draw the same random units") {
  const auto draw = [] {
    std::set<double> units;
    for (int i = 0; i < 100; ++i) units.insert(random_unit());
    return units;
  };
  auto here = draw();
  auto one = support::on_thread(draw).get();
  auto other = support::on_thread(draw).get();
  CHECK(here.size() == 100);
  CHECK(one != other);
  CHECK(one != here);
}
