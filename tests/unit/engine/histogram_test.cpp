#include "engine/histogram.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <support/random_bytes.hpp>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using tenantry::histogram;
using tenantry::detail::histogram_recorder;

std::size_t only_bucket(nanoseconds took) {
  histogram_recorder recorder;
  recorder.record(took);
  const histogram seen = recorder.snapshot();
  const auto found = std::ranges::find(seen.buckets, std::uint64_t{1}, &histogram::bucket::count);
  REQUIRE(found != seen.buckets.end());
  return static_cast<std::size_t>(found - seen.buckets.begin());
}

}  // namespace

TEST_CASE("a histogram without durations is all zeros") {
  const histogram seen = histogram_recorder{}.snapshot();
  CHECK(seen.count == 0);
  CHECK(seen.sum == 0ns);
  CHECK(seen.max == 0ns);
  CHECK(seen.quantile(0.5) == 0ns);
  CHECK(seen.count_within(1h) == 0);
  CHECK(histogram{}.quantile(1) == 0ns);
}

TEST_CASE("bounds ascend, and from 1 us to 60 s each is at most an eighth above the one before") {
  const histogram seen = histogram_recorder{}.snapshot();
  CHECK(seen.buckets.front().upper == 1024ns);
  CHECK(seen.buckets.back().upper == nanoseconds::max());
  const nanoseconds longest = seen.buckets[seen.buckets.size() - 2].upper;
  CHECK(longest > 60s);
  for (std::size_t i = 1; i + 1 < seen.buckets.size(); ++i) {
    const auto before = seen.buckets[i - 1].upper.count();
    const auto here = seen.buckets[i].upper.count();
    REQUIRE(here > before);
    REQUIRE((here - before) * 8 <= before);
  }
}

TEST_CASE("a duration falls into the first bucket whose bound it does not exceed") {
  const histogram empty = histogram_recorder{}.snapshot();
  support::random_bytes random;
  for (std::size_t i = 0; i + 1 < empty.buckets.size(); ++i) {
    REQUIRE(only_bucket(empty.buckets[i].upper) == i);
    REQUIRE(only_bucket(empty.buckets[i].upper + 1ns) == i + 1);
  }
  for (int round = 0; round < 2'000; ++round) {
    const nanoseconds took{static_cast<nanoseconds::rep>(random.number() >> (1 + random.below(50)))};
    const std::size_t at = only_bucket(took);
    CAPTURE(took.count());
    REQUIRE(took <= empty.buckets[at].upper);
    if (at > 0) REQUIRE(took > empty.buckets[at - 1].upper);
  }
  CHECK(only_bucket(0ns) == 0);
  CHECK(only_bucket(nanoseconds::max()) == empty.buckets.size() - 1);
}

TEST_CASE("a negative duration counts as none") {
  histogram_recorder recorder;
  recorder.record(-5ms);
  const histogram seen = recorder.snapshot();
  CHECK(seen.buckets.front().count == 1);
  CHECK(seen.sum == 0ns);
  CHECK(seen.max == 0ns);
}

TEST_CASE("count, sum and max are exact") {
  histogram_recorder recorder;
  for (const auto each : std::vector<nanoseconds>{3ms, 7us, 2s, 11ns}) recorder.record(each);
  const histogram seen = recorder.snapshot();
  CHECK(seen.count == 4);
  CHECK(seen.sum == 3ms + 7us + 2s + 11ns);
  CHECK(seen.max == 2s);
}

TEST_CASE("a quantile is at most an eighth above the true one and never below it") {
  support::random_bytes random;
  for (int round = 0; round < 50; ++round) {
    histogram_recorder recorder;
    std::vector<nanoseconds> all;
    for (std::size_t n = 1 + random.below(300); n > 0; --n) {
      const double exponent = 3.02 + 7.75 * static_cast<double>(random.below(10'000)) / 1e4;  // 1.05 us to 59 s
      all.emplace_back(static_cast<nanoseconds::rep>(std::pow(10.0, exponent)));
      recorder.record(all.back());
    }
    std::ranges::sort(all);
    const histogram seen = recorder.snapshot();
    for (const double q : {0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      CAPTURE(q, all.size());
      const double rank = std::max(1.0, std::ceil(q * static_cast<double>(all.size())));
      const nanoseconds exact = all[static_cast<std::size_t>(rank) - 1];
      REQUIRE(seen.quantile(q) >= exact);
      REQUIRE(seen.quantile(q).count() <= exact.count() + exact.count() / 8 + 1);
    }
    CHECK(seen.quantile(1) == all.back());
    CHECK(seen.quantile(7) == all.back());
    CHECK(seen.quantile(-1) == seen.quantile(0));
    CHECK(seen.quantile(std::nan("")) == seen.quantile(0));
  }
}

TEST_CASE("durations over a minute are counted, and the largest is known") {
  histogram_recorder recorder;
  recorder.record(10min);
  const histogram seen = recorder.snapshot();
  CHECK(seen.buckets.back().count == 1);
  CHECK(seen.quantile(0.5) == 10min);
  CHECK(seen.count_within(2min) == 0);
  CHECK(seen.count_within(nanoseconds::max()) == 1);
}

TEST_CASE("count_within adds up the buckets to its bound") {
  histogram_recorder recorder;
  for (const auto each : std::vector<nanoseconds>{500ns, 10us, 1ms, 1s}) recorder.record(each);
  const histogram seen = recorder.snapshot();
  CHECK(seen.count_within(0ns) == 0);
  CHECK(seen.count_within(1024ns) == 1);
  CHECK(seen.count_within(100us) == 2);
  CHECK(seen.count_within(100ms) == 3);
  CHECK(seen.count_within(60s) == 4);
}

TEST_CASE("threads that record together lose nothing") {
  constexpr int threads = 4;
  constexpr int each = 1'000'000;
  histogram_recorder recorder;
  std::latch all_here{threads};
  {
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t) {
      all.emplace_back([&recorder, &all_here, t] {
        all_here.arrive_and_wait();
        for (int i = 0; i < each; ++i) recorder.record(std::chrono::microseconds{(t + i) % 10});
      });
    }
  }
  const histogram seen = recorder.snapshot();
  constexpr std::int64_t total = std::int64_t{threads} * each;
  CHECK(seen.count == total);
  CHECK(seen.sum == std::chrono::microseconds{total * 9 / 2});
  CHECK(seen.max == 9us);
}
