// Which messages are measured, and what a queue counts of them.

#include "messaging/timed_messages.hpp"

#include "messaging/feed_queue.hpp"

#include <tenantry/subscription.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using namespace std::chrono_literals;
constexpr td::timed_messages::time_point start{1h};

/// How many of the messages of one second are measured, that come so far apart.
int measured(std::chrono::microseconds apart, std::size_t listeners) {
  td::timed_messages timed;
  int count = 0;
  for (auto now = start; now < start + 1s; now += apart) count += timed.next(now, listeners) ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("every message is measured up to 100000 deliveries a second, and of more about so many") {
  CHECK(measured(10ms, 1000) == 100);
  CHECK(measured(10us, 1) == 100'000);
  CHECK(measured(1us, 1) == 100'000);
  CHECK(measured(10us, 1000) == 100);
  CHECK(measured(1ms, 10'000) == 10);
}

TEST_CASE(
    "the first message is measured, also one that nobody listens to, and after a flood the next one at its time") {
  td::timed_messages timed;
  CHECK(timed.next(start, 0));
  CHECK(timed.next(start, 100));
  CHECK_FALSE(timed.next(start + 999us, 1));
  CHECK(timed.next(start + 1ms, 1));
}

TEST_CASE("a queue counts how long those took that were measured") {
  td::feed_queue queue{10, 100, tn::overflow::drop_oldest};
  queue.count_time(2ms);
  queue.count_time(5ms);
  queue.count_time(3ms);
  const tn::subscription_counters all = queue.counters();
  CHECK(all.timed == 3);
  CHECK(all.time_in_queue == 10ms);
  CHECK(all.most_time_in_queue == 5ms);
}
