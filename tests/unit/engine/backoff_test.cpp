#include "engine/backoff.hpp"

#include "engine/retry_budget.hpp"

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
using tenantry::detail::backoff;
using tenantry::detail::retry_budget;

const double almost_one = std::nextafter(1.0, 0.0);

}  // namespace

TEST_CASE("the first attempt to connect comes within 20 ms") {
  CHECK(backoff{}.next(0.0) == 0ms);
  CHECK(backoff{}.next(0.5) == 10ms);
  CHECK(backoff{}.next(almost_one) == 20ms);
}

TEST_CASE("the limit of the delay doubles up to 2 s and stays there") {
  backoff delays;
  for (const auto limit : {20ms, 40ms, 80ms, 160ms, 320ms, 640ms, 1280ms, 2000ms, 2000ms}) {
    CHECK(delays.next(almost_one) == limit);
  }
  for (int i = 0; i < 100'000; ++i) REQUIRE(delays.next(almost_one) == 2s);
}

TEST_CASE("every delay from nothing to the limit occurs") {
  support::random_bytes random;
  std::vector<int> seen(21);
  for (int i = 0; i < 5'000; ++i) {
    const auto delay = backoff{}.next(static_cast<double>(random.below(1'000'000)) / 1e6);
    REQUIRE(delay >= 0ms);
    REQUIRE(delay <= 20ms);
    ++seen[static_cast<std::size_t>(delay.count())];
  }
  CHECK(std::ranges::find(seen, 0) == seen.end());
}

TEST_CASE("a refusal of the credentials is followed by 5 to 30 s, and the delays grow") {
  backoff delays;
  CHECK(backoff{}.next_after_refusal(0.0) == 5s);
  for (const auto limit : {10s, 20s, 30s, 30s, 30s}) CHECK(delays.next_after_refusal(almost_one) == limit);
  CHECK(delays.next_after_refusal(0.0) == 5s);
}

TEST_CASE("refusals and failed attempts do not lengthen each other's delays") {
  backoff delays;
  for (int i = 0; i < 5; ++i) delays.next_after_refusal(0.5);
  CHECK(delays.next(almost_one) == 20ms);
  for (int i = 0; i < 5; ++i) delays.next(0.5);
  backoff other;
  for (int i = 0; i < 5; ++i) other.next(0.5);
  CHECK(other.next_after_refusal(almost_one) == 10s);
}

TEST_CASE("a connection makes the next delays short again") {
  backoff delays;
  for (int i = 0; i < 9; ++i) delays.next(0.5);
  for (int i = 0; i < 9; ++i) delays.next_after_refusal(0.5);
  delays.reset();
  CHECK(delays.next(almost_one) == 20ms);
  CHECK(delays.next_after_refusal(almost_one) == 10s);
}

TEST_CASE("a new budget allows its burst of retries and no more") {
  retry_budget budget{3};
  CHECK(budget.take());
  CHECK(budget.take());
  CHECK(budget.take());
  CHECK_FALSE(budget.take());
  CHECK_FALSE(budget.take());
}

TEST_CASE("ten first tries earn one retry") {
  retry_budget budget{1};
  CHECK(budget.take());
  for (int i = 0; i < 9; ++i) budget.earned();
  CHECK_FALSE(budget.take());
  budget.earned();
  CHECK(budget.take());
  CHECK_FALSE(budget.take());
}

TEST_CASE("unused retries do not add up beyond the burst") {
  retry_budget budget{2};
  for (int i = 0; i < 1'000; ++i) budget.earned();
  CHECK(budget.take());
  CHECK(budget.take());
  CHECK_FALSE(budget.take());
}

TEST_CASE("retries of many threads are at most a tenth of their first tries and the burst") {
  constexpr std::int64_t burst = 10;
  constexpr int rounds = 2'000'000;
  constexpr int threads = 4;
  retry_budget budget{burst};
  std::vector<std::int64_t> taken(threads);
  std::latch all_here{threads};
  {
    std::vector<std::jthread> all;
    for (int i = 0; i < threads; ++i) {
      all.emplace_back([&budget, &all_here, &mine = taken[static_cast<std::size_t>(i)]] {
        all_here.arrive_and_wait();
        std::int64_t granted = 0;
        for (int round = 0; round < rounds; ++round) {
          budget.earned();
          if (budget.take()) ++granted;
          if (budget.take()) ++granted;
        }
        mine = granted;
      });
    }
  }
  std::int64_t sum = 0;
  for (const std::int64_t each : taken) sum += each;
  CHECK(sum <= threads * rounds / 10 + burst);
  CHECK(sum >= threads * rounds / 10);  // nothing that was earned is lost either
}
