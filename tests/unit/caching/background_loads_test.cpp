// Loads that go on without their callers: who gets in, who is told of the end, and who waits for whom.

#include "caching/background_loads.hpp"

#include "support/concurrency.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using tenantry::detail::background_loads;
using clock = std::chrono::steady_clock;
using place = background_loads::place;

/// Whether all have left; closes it.
bool empty(background_loads& loads) { return loads.close(clock::now()); }

}  // namespace

TEST_CASE("a closed place is empty, and who is inside keeps it from being so until it has left") {
  const support::must_end in_time;
  background_loads none;
  CHECK(none.close(clock::now()));
  CHECK(none.close(std::nullopt));

  background_loads loads;
  auto one = loads.enter({});
  auto other = loads.enter({});
  auto renewal = loads.enter_refresh("k", {});
  REQUIRE(one);
  REQUIRE(other);
  REQUIRE(renewal);
  CHECK_FALSE(empty(loads));
  one->leave();
  CHECK_FALSE(empty(loads));
  renewal.reset();
  CHECK_FALSE(empty(loads));
  other->leave();
  CHECK(empty(loads));
  CHECK(loads.close(std::nullopt));
}

TEST_CASE("a key is renewed by one at a time, and again after that left") {
  background_loads loads;
  auto first = loads.enter_refresh("k", {});
  REQUIRE(first);
  CHECK_FALSE(loads.enter_refresh("k", {}));
  CHECK_FALSE(loads.enter_refresh("k", {}));
  CHECK(loads.enter_refresh("K", {}));
  CHECK(loads.enter_refresh("", {}));
  CHECK(loads.enter({}));
  auto other = loads.enter_refresh("other", {});
  REQUIRE(other);
  first->leave();
  CHECK_FALSE(loads.enter_refresh("other", {}));
  auto again = loads.enter_refresh("k", {});
  REQUIRE(again);
  CHECK_FALSE(loads.enter_refresh("k", {}));
  again.reset();
  CHECK(loads.enter_refresh("k", {}));
}

TEST_CASE("a load that is no renewal ends none") {
  background_loads loads;
  auto unnamed = loads.enter_refresh("", {});
  auto named = loads.enter_refresh("k", {});
  auto load = loads.enter({});
  load->leave();
  CHECK_FALSE(loads.enter_refresh("k", {}));
  CHECK(loads.enter({}));
}

TEST_CASE("nothing gets into what is closed, also while others are still inside") {
  for (const bool inside : {true, false}) {
    background_loads loads;
    auto one = loads.enter({});
    if (!inside) one->leave();
    CHECK(loads.close(clock::now() - 1h) == !inside);
    std::stop_source over;
    CHECK_FALSE(loads.enter({over}));
    CHECK_FALSE(loads.enter_refresh("k", over));
    if (inside) one->leave();
    CHECK_FALSE(loads.enter({}));
    CHECK(empty(loads));
  }
}

TEST_CASE("those inside are told of the end, and those who have left are not") {
  for (const auto patience : {0ms, 1ms}) {
    background_loads loads;
    std::vector<std::stop_source> over(5);
    const auto all = loads.enter({over[0], over[1]});
    const auto one = loads.enter({over[2]});
    const auto renewal = loads.enter_refresh("k", over[3]);
    loads.enter({over[4]})->leave();
    for (const auto& each : over) CHECK_FALSE(each.stop_requested());
    CHECK_FALSE(loads.close(clock::now() + patience));
    for (int i = 0; i < 4; ++i) CHECK(over[static_cast<std::size_t>(i)].stop_requested());
    CHECK_FALSE(over[4].stop_requested());
  }
}

TEST_CASE("who is told of the end may leave at once, and finds it closed") {
  const support::must_end in_time;
  background_loads loads;
  std::stop_source over;
  std::stop_source other_over;
  auto mine = loads.enter({over, other_over});
  auto other = loads.enter_refresh("k", other_over);
  bool got_in = false;
  const std::stop_callback leaves{over.get_token(), [&] {
                                    got_in = loads.enter({}).has_value() || loads.enter_refresh("k2", {}).has_value();
                                    mine->leave();
                                    other->leave();
                                  }};
  CHECK(loads.close(std::nullopt));
  CHECK_FALSE(got_in);
  CHECK(other_over.stop_requested());
}

TEST_CASE("a load leaves once") {
  background_loads loads;
  auto first = loads.enter_refresh("k", {});
  first->leave();
  auto second = loads.enter_refresh("k", {});
  auto load = loads.enter({});
  first->leave();
  first.reset();
  CHECK_FALSE(loads.enter_refresh("k", {}));
  second->leave();
  second->leave();
  CHECK_FALSE(empty(loads));
  load.reset();
  CHECK(empty(loads));
}

TEST_CASE("a place that was moved from leaves nothing behind it") {
  background_loads loads;
  auto from = loads.enter_refresh("k", {});
  {
    const auto to = std::make_unique<place>(std::move(*from));
    from->leave();
    from.reset();
    CHECK_FALSE(loads.enter_refresh("k", {}));
  }
  auto again = loads.enter_refresh("k", {});
  REQUIRE(again);
  std::vector<place> moved_often;
  moved_often.push_back(std::move(*again));
  for (int i = 0; i < 20; ++i) moved_often.push_back(std::move(*loads.enter({})));
  CHECK_FALSE(loads.enter_refresh("k", {}));
  CHECK_FALSE(empty(loads));
  while (moved_often.size() > 1) moved_often.pop_back();
  CHECK_FALSE(empty(loads));
  moved_often.clear();
  CHECK(empty(loads));
}

TEST_CASE("who closes waits until all have left, or until its time comes") {
  const support::must_end in_time;
  for (const bool has_limit : {false, true}) {
    background_loads loads;
    std::stop_source over;
    auto one = loads.enter({over});
    auto other = loads.enter_refresh("k", {});
    const auto begin = clock::now();
    auto closing =
        support::on_thread([&] { return loads.close(has_limit ? std::optional{begin + 10min} : std::nullopt); });
    while (!over.stop_requested()) std::this_thread::yield();
    CHECK_FALSE(loads.close(clock::now() + 20ms));
    CHECK(clock::now() >= begin + 20ms);
    one->leave();
    CHECK(closing.wait_for(20ms) == std::future_status::timeout);
    other->leave();
    CHECK(closing.get());
  }
}

TEST_CASE("any number may close, and all learn that the last has left") {
  const support::must_end in_time;
  background_loads loads;
  std::stop_source over;
  auto one = loads.enter({over});
  std::vector<std::future<bool>> closing;
  for (int i = 0; i < 3; ++i) {
    closing.push_back(support::on_thread(
        [&, i] { return loads.close(i == 0 ? std::nullopt : std::optional{clock::now() + 10min}); }));
  }
  while (!over.stop_requested()) std::this_thread::yield();
  one->leave();
  for (auto& each : closing) CHECK(each.get());
}

TEST_CASE("while many threads enter and leave and another closes, all inside are told and nothing gets in afterwards") {
  const support::must_end in_time;
  for (int round = 0; round < 100; ++round) {
    background_loads loads;
    std::atomic<int> inside{0};
    std::atomic<int> renewing{0};
    std::atomic<int> entered{0};
    std::atomic<bool> closed{false};
    std::vector<std::future<std::string>> threads;
    for (int i = 0; i < 4; ++i) {
      threads.push_back(support::on_thread([&, i]() -> std::string {
        for (int n = 0;; ++n) {
          const bool was_closed = closed;
          std::stop_source over;
          const bool renews = (n + i) % 2 == 0;
          auto mine = renews ? loads.enter_refresh("k", over) : loads.enter({over});
          if (!mine) {
            if (was_closed) return "";
            continue;
          }
          if (was_closed) return "got in afterwards";
          ++inside;
          ++entered;
          if (renews && ++renewing != 1) return "two renew the same key";
          // Some stay until they are told, which would never end if they were not.
          if (n % 50 == 49) {
            while (!over.stop_requested()) std::this_thread::yield();
          }
          if (renews) --renewing;
          --inside;
          mine->leave();
        }
      }));
    }
    while (entered < round % 20) std::this_thread::yield();
    CHECK(loads.close(std::nullopt));
    CHECK(inside == 0);
    closed = true;
    for (auto& each : threads) CHECK(each.get() == "");
  }
}
