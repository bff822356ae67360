// The loads under way in a process: who leads, who joins, and how all of them learn of the end.

#include "caching/flights.hpp"

#include "support/concurrency.hpp"

#include <tenantry/detail/load_scope.hpp>
#include <tenantry/detail/wait_graph.hpp>
#include <tenantry/load_context.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using tenantry::detail::fetched;
using tenantry::detail::flight;
using tenantry::detail::flights;
using tenantry::detail::led_load;
using tenantry::detail::load_chain;
using tenantry::detail::load_scope;
using clock = std::chrono::steady_clock;

fetched value(int number) { return {.value = std::make_shared<const int>(number), .stored = true}; }

int number_of(const flight& which) { return *static_cast<const int*>(which.result()->value.get()); }

std::exception_ptr fault(const char* text) { return std::make_exception_ptr(std::runtime_error{text}); }

std::string text_of(const std::exception_ptr& what) {
  try {
    if (what) std::rethrow_exception(what);
  } catch (const std::exception& thrown) {
    return thrown.what();
  }
  return "nothing";
}

/// False where a flight that is under way said otherwise.
bool under_way(flight& which) { return !which.ended() && !which.wait_until(clock::now()); }

}  // namespace

TEST_CASE("the first to board a flight leads it, and the others join it") {
  flights all;
  const auto first = all.board("k", "lease", true);
  CHECK(first.leads);
  REQUIRE(first.joined);
  CHECK(first.joined->identity() == "lease");
  for (const bool may_lead : {true, false}) {
    const auto other = all.board("k", "lease", may_lead);
    CHECK_FALSE(other.leads);
    CHECK(other.joined == first.joined);
  }
  CHECK(under_way(*first.joined));
  all.land("k", first.joined, value(1), nullptr);
}

TEST_CASE("inside of a loader nobody waits for a flight whose thread is not known yet, and then for it in circles") {
  flights all;
  const auto mine = all.board("mine", "lease", true).joined;
  const auto theirs = all.announce("theirs", "lease");
  const auto inside = [](const auto& action) {
    const load_scope scope{std::make_shared<const load_chain>()};
    return action();
  };
  const auto waits_for = [&](flight& which) {
    return inside([&] {
      const bool waits = which.begin_wait();
      const led_load::wait_ends over;
      return waits;
    });
  };
  CHECK(theirs->begin_wait());  // outside it may
  CHECK_FALSE(waits_for(*theirs));
  mine->lead();
  CHECK_FALSE(waits_for(*mine));
  support::gate waiting;
  support::gate released;
  auto other = support::on_thread([&] {
    theirs->lead();
    return inside([&] {
      const bool waits = mine->begin_wait();
      const led_load::wait_ends over;
      waiting.open();
      return waits && released.wait();
    });
  });
  CHECK(waiting.wait());
  CHECK_FALSE(waits_for(*theirs));  // its thread waits for this one
  released.open();
  CHECK(other.get());
  CHECK(waits_for(*theirs));
  theirs->hand_over();
  CHECK_FALSE(waits_for(*theirs));
  all.land("theirs", theirs, value(1), nullptr);
  CHECK(waits_for(*theirs));
  all.land("mine", mine, value(1), nullptr);
}

TEST_CASE("a coroutine inside of loads waits for none that waits itself, as a thread or as a coroutine, or is queued") {
  flights all;
  const auto outer = all.board("outer", "lease", true).joined;
  const auto inner = all.board("inner", "lease", true).joined;
  const auto other = all.board("other", "lease", true).joined;
  const auto around = std::make_shared<const load_chain>(load_chain{.cache = nullptr, .key = "outer", .load = outer});
  const load_chain chain{.cache = nullptr, .key = "inner", .load = inner, .outer = around};
  const load_chain others{.cache = nullptr, .key = "other", .load = other};
  CHECK_FALSE(other->begin_await(chain));  // queued
  for (flight* each : {&*outer, &*inner, &*other}) each->lead();
  {
    REQUIRE(other->begin_await(chain));
    const led_load::await_ends over{&chain};
    CHECK_FALSE(inner->begin_await(others));
    CHECK_FALSE(outer->begin_await(others));
    const load_scope scope{around};
    CHECK_FALSE(outer->begin_wait());  // nor does a thread
  }
  REQUIRE(outer->begin_await(others));
  const led_load::await_ends over{&others};
  CHECK_FALSE(other->begin_await(chain));
  for (const auto& [name, each] : {std::pair{"outer", outer}, {"inner", inner}, {"other", other}}) {
    all.land(name, each, value(1), nullptr);
  }
}

TEST_CASE("who may not lead gets no flight where there is none, and leaves none behind") {
  flights all;
  const auto none = all.board("k", "lease", false);
  CHECK_FALSE(none.joined);
  CHECK_FALSE(none.leads);
  CHECK_FALSE(all.board("k", "lease", false).joined);
  CHECK(all.board("k", "lease", true).leads);
}

TEST_CASE("a flight of another identity or of another key is not joined") {
  flights all;
  const auto mine = all.board("k", "lease 1", true).joined;
  CHECK_FALSE(all.board("k", "lease 2", false).joined);
  CHECK_FALSE(all.board("k", "lease ", false).joined);
  CHECK_FALSE(all.board("k", "", false).joined);
  CHECK_FALSE(all.board("K", "lease 1", false).joined);

  const auto next = all.board("k", "lease 2", true);
  const auto elsewhere = all.board("other", "lease 1", true);
  CHECK(next.leads);
  CHECK(elsewhere.leads);
  CHECK(next.joined != mine);
  CHECK(elsewhere.joined != mine);
  CHECK(all.board("k", "lease 1", false).joined == mine);
  CHECK(all.board("k", "lease 2", false).joined == next.joined);
}

TEST_CASE("the end of one flight leaves the others of its key under way") {
  flights all;
  const auto first = all.board("k", "1", true).joined;
  const auto second = all.board("k", "2", true).joined;
  all.land("k", first, value(1), nullptr);
  CHECK(first->ended());
  CHECK(under_way(*second));
  CHECK_FALSE(all.board("k", "1", false).joined);
  CHECK(all.board("k", "2", false).joined == second);
}

TEST_CASE("a flight that landed is not joined any more, and the next of its identity is another") {
  flights all;
  const auto first = all.board("k", "lease", true).joined;
  all.land("k", first, value(1), nullptr);
  const auto next = all.board("k", "lease", true);
  CHECK(next.leads);
  CHECK(next.joined != first);
  // Landing the old one again does not end the new one.
  all.land("k", first, value(1), nullptr);
  CHECK(under_way(*next.joined));
  CHECK(all.board("k", "lease", false).joined == next.joined);
}

TEST_CASE("an announced flight is joined by its identity before it is known whether it will be led") {
  flights all;
  const auto announced = all.announce("k", "lease");
  CHECK(announced->identity() == "lease");
  const auto other = all.board("k", "lease", true);
  CHECK_FALSE(other.leads);
  CHECK(other.joined == announced);
  all.land("k", announced, value(4), nullptr);
  CHECK(number_of(*other.joined) == 4);
}

TEST_CASE("a withdrawn flight is not joined any more") {
  flights all;
  const auto announced = all.announce("k", "lease");
  all.withdraw("k", announced);
  CHECK_FALSE(all.board("k", "lease", false).joined);
  const auto next = all.announce("k", "lease");
  all.withdraw("k", announced);  // again: that is not the next one
  CHECK(all.board("k", "lease", false).joined == next);
  all.withdraw("of no flight", next);
  CHECK(all.board("k", "lease", false).joined == next);
}

TEST_CASE("a flight ends with a value for all who joined it") {
  flights all;
  const auto mine = all.board("k", "lease", true).joined;
  const auto other = all.board("k", "lease", false).joined;
  all.land("k", mine, value(7), nullptr);
  CHECK(other->ended());
  CHECK(other->wait_until(clock::now()));
  CHECK(other->wait_until(clock::time_point::max()));
  REQUIRE(other->result());
  CHECK(number_of(*other) == 7);
  CHECK(other->result()->stored);
  CHECK_FALSE(other->fault());
}

TEST_CASE("a flight ends with an absent value as with any other") {
  flights all;
  const auto mine = all.board("k", "lease", true).joined;
  all.land("k", mine, fetched{}, nullptr);
  REQUIRE(mine->result());
  CHECK(mine->result()->value == nullptr);
  CHECK_FALSE(mine->fault());
}

TEST_CASE("a flight whose loader threw ends with what was thrown") {
  flights all;
  const auto mine = all.board("k", "lease", true).joined;
  all.land("k", mine, std::nullopt, fault("no database"));
  CHECK(mine->ended());
  CHECK_FALSE(mine->result());
  CHECK(text_of(mine->fault()) == "no database");
}

TEST_CASE("a flight that ended with nothing at all has something to rethrow") {
  flights all;
  const auto mine = all.board("k", "lease", true).joined;
  all.land("k", mine, std::nullopt, nullptr);
  CHECK_FALSE(mine->result());
  CHECK(text_of(mine->fault()) == "the loader's thread ended");
}

TEST_CASE("coroutines are woken at the end, once each, and at once when it has come") {
  flights all;
  const auto mine = all.board("k", "lease", true).joined;
  std::vector<std::stop_source> waiting(3);
  int woken = 0;
  const auto count = [&woken] { ++woken; };
  const std::stop_callback first{waiting[0].get_token(), count};
  const std::stop_callback second{waiting[1].get_token(), count};
  for (const auto& each : waiting) mine->at_end(each);
  CHECK(woken == 0);
  CHECK_FALSE(waiting[2].stop_requested());
  all.land("k", mine, value(1), nullptr);
  CHECK(woken == 2);
  for (const auto& each : waiting) CHECK(each.stop_requested());

  std::stop_source late;
  mine->at_end(late);
  CHECK(late.stop_requested());
}

TEST_CASE("the result is there when a coroutine is woken, and its callback may board the next flight") {
  flights all;
  const auto mine = all.board("k", "lease", true).joined;
  std::stop_source wake;
  int seen = 0;
  bool led = false;
  const std::stop_callback callback{wake.get_token(), [&] {
                                      seen = number_of(*mine);
                                      led = all.board("k", "lease", true).leads && mine->ended();
                                    }};
  mine->at_end(wake);
  all.land("k", mine, value(5), nullptr);
  CHECK(seen == 5);
  CHECK(led);
}

TEST_CASE("threads wait for the end of a flight, with a limit and without") {
  const support::must_end in_time;
  flights all;
  const auto mine = all.board("k", "lease", true).joined;
  std::vector<std::future<int>> waiting;
  for (int i = 0; i < 4; ++i) {
    waiting.push_back(support::on_thread([&all, i] {
      const auto joined = all.board("k", "lease", false).joined;
      if (!joined) return 7;  // it had landed by then
      const auto limit = i % 2 == 0 ? clock::time_point::max() : clock::now() + 40s;
      return joined->wait_until(limit) ? number_of(*joined) : -1;
    }));
  }
  CHECK(under_way(*mine));
  all.land("k", mine, value(7), nullptr);
  for (auto& each : waiting) CHECK(each.get() == 7);
}

TEST_CASE("a wait ends without the flight when its time has come") {
  const support::must_end in_time;
  flights all;
  const auto mine = all.board("k", "lease", true).joined;
  CHECK_FALSE(mine->wait_until(clock::now()));
  CHECK_FALSE(mine->wait_until(clock::now() - 1h));
  CHECK_FALSE(mine->wait_until(clock::now() + 1ms));
  CHECK_FALSE(mine->ended());
}

TEST_CASE("of many threads that board at once one leads, and all get its result") {
  const support::must_end in_time;
  for (int round = 0; round < 50; ++round) {
    flights all;
    support::gate start;
    std::atomic<int> boarded{0};
    std::atomic<int> leaders{0};
    std::vector<std::future<int>> threads;
    {
      const support::opens_at_end opens{start};
      for (int i = 0; i < 6; ++i) {
        threads.push_back(support::on_thread([&, i] {
          start.wait();
          const auto seat = all.board("k", "lease", true);
          ++boarded;
          if (!seat.leads) {
            std::stop_source wake;
            seat.joined->at_end(wake);
            seat.joined->wait_until(clock::time_point::max());
            return number_of(*seat.joined);
          }
          ++leaders;
          while (boarded < 6) std::this_thread::yield();
          all.land("k", seat.joined, value(i), nullptr);
          return i;
        }));
      }
    }
    const int first = threads.front().get();
    for (std::size_t i = 1; i < threads.size(); ++i) REQUIRE(threads[i].get() == first);
    REQUIRE(leaders == 1);
  }
}
