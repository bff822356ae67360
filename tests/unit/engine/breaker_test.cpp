#include "engine/breaker.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <string>
#include <support/random_bytes.hpp>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using detail::breaker;
using state = detail::breaker_state;
using time_point = breaker::time_point;

constexpr time_point start{12'345s};
constexpr double longest = 1.0 - 1e-9;

/// Never opens because of failures in a row.
breaker_options by_ratio() { return {.consecutive_failures = 1'000'000}; }

/// Opened at `now` by failures in a row.
void open(breaker& one, time_point now, double random01 = longest) {
  while (one.state() != state::open) one.failed(now, random01);
}

std::string refusal(const breaker_options& options) {
  try {
    detail::check(options);
    return {};
  } catch (const invalid_option& why) {
    return why.what();
  }
}

}  // namespace

TEST_CASE("five failures in a row open the breaker") {
  breaker one{{}};
  for (int i = 0; i < 4; ++i) CHECK_FALSE(one.failed(start, 0.5));
  CHECK(one.state() == state::closed);
  CHECK(one.allow(start));
  CHECK(one.failed(start, 0.5));
  CHECK(one.state() == state::open);
  CHECK_FALSE(one.allow(start));
}

TEST_CASE("a success between failures starts the row again") {
  breaker one{{.min_calls = 1'000}};
  for (int i = 0; i < 50; ++i) {
    for (int k = 0; k < 4; ++k) CHECK_FALSE(one.failed(start, 0.5));
    CHECK_FALSE(one.succeeded(start, one.openings()));
  }
  CHECK(one.state() == state::closed);
}

TEST_CASE("half of at least twenty calls failing opens the breaker") {
  breaker one{by_ratio()};
  for (int i = 0; i < 10; ++i) one.succeeded(start, one.openings());
  for (int i = 0; i < 9; ++i) CHECK_FALSE(one.failed(start + 1s, 0.5));
  CHECK(one.failed(start + 2s, 0.5));

  breaker few{by_ratio()};
  for (int i = 0; i < 19; ++i) CHECK_FALSE(few.failed(start, 0.5));
  CHECK(few.failed(start, 0.5));
}

TEST_CASE("fewer failures than the share leave the breaker closed") {
  breaker one{by_ratio()};
  for (int i = 0; i < 1'000; ++i) {
    one.succeeded(start, one.openings());
    if (i % 3 == 0) one.failed(start, 0.5);
  }
  CHECK(one.state() == state::closed);
}

TEST_CASE("calls of more than ten seconds ago do not count") {
  breaker one{by_ratio()};
  for (int i = 0; i < 19; ++i) one.failed(start, 0.5);
  CHECK_FALSE(one.failed(start + 10s, 0.5));
  breaker other{by_ratio()};
  for (int i = 0; i < 19; ++i) other.failed(start, 0.5);
  CHECK(other.failed(start + 9s, 0.5));
}

TEST_CASE("the share is that of a window of ten seconds under random outcomes") {
  support::random_bytes random;
  int opened = 0;
  for (int round = 0; round < 100; ++round) {
    breaker one{by_ratio()};
    std::deque<std::pair<long long, bool>> model;  // second, failed
    time_point now = start + std::chrono::milliseconds{random.below(1'000'000)};
    const std::size_t failing = 1 + random.below(9);
    for (int i = 0; i < 300 && one.state() == state::closed; ++i) {
      now += std::chrono::milliseconds{random.below(random.below(20) == 0 ? 15'000 : 700)};
      const bool fails = random.below(10) < failing;
      const long long second = std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
      model.emplace_back(second, fails);
      while (model.front().first <= second - 10) model.pop_front();
      if (!fails) {
        one.succeeded(now, one.openings());
        continue;
      }
      std::size_t bad = 0;
      for (const auto& each : model) bad += each.second ? 1U : 0U;
      const bool expected = model.size() >= 20 && 2 * bad >= model.size();
      REQUIRE(one.failed(now, 0.5) == expected);
      if (expected) ++opened;
    }
  }
  CHECK(opened > 0);
}

TEST_CASE("an open breaker lets nothing pass until its time is over, then one probe at a time") {
  breaker one{{}};
  open(one, start);
  CHECK_FALSE(one.allow(start + 499ms));
  CHECK(one.allow(start + 500ms));
  CHECK(one.state() == state::half_open);
  CHECK_FALSE(one.allow(start + 501ms));
  CHECK_FALSE(one.allow(start + 600ms));
}

TEST_CASE("a probe that succeeds closes the breaker, and what was before is forgotten") {
  breaker one{{}};
  open(one, start);
  REQUIRE(one.allow(start + 500ms));
  CHECK(one.succeeded(start + 510ms, one.openings()));
  CHECK(one.state() == state::closed);
  CHECK(one.allow(start + 510ms));
  CHECK(one.allow(start + 510ms));
  CHECK_FALSE(one.succeeded(start + 510ms, one.openings()));
  for (int i = 0; i < 4; ++i) CHECK_FALSE(one.failed(start + 520ms, 0.5));
  CHECK(one.state() == state::closed);
}

TEST_CASE("each probe that fails doubles the time up to ten seconds, and a success starts again") {
  breaker one{{}};
  time_point now = start;
  open(one, now);
  for (const auto time : {500ms, 1000ms, 2000ms, 4000ms, 8000ms, 10000ms, 10000ms}) {
    CAPTURE(time.count());
    REQUIRE_FALSE(one.allow(now + time - 1ms));
    now += time;
    REQUIRE(one.allow(now));
    CHECK(one.failed(now, longest));
    CHECK(one.state() == state::open);
  }
  now += 10s;
  REQUIRE(one.allow(now));
  REQUIRE(one.succeeded(now, one.openings()));
  open(one, now);
  CHECK_FALSE(one.allow(now + 499ms));
  CHECK(one.allow(now + 500ms));
}

TEST_CASE("chance takes at most half of the time away") {
  breaker one{{}};
  open(one, start, 0.0);
  CHECK_FALSE(one.allow(start + 249ms));
  CHECK(one.allow(start + 250ms));
}

TEST_CASE("a probe whose outcome never comes makes room for another") {
  breaker one{{}};
  open(one, start);
  REQUIRE(one.allow(start + 1s));
  CHECK_FALSE(one.allow(start + 2999ms));
  CHECK(one.allow(start + 3s));
  CHECK_FALSE(one.allow(start + 3s));
  CHECK(one.succeeded(start + 3s, one.openings()));
}

TEST_CASE("failures that come while the breaker is open change nothing, nor do successes of calls that began before") {
  breaker one{{}};
  const auto before = one.openings();
  open(one, start);
  CHECK_FALSE(one.succeeded(start + 10ms, before));
  for (int i = 0; i < 100; ++i) CHECK_FALSE(one.failed(start + 400ms, longest));
  CHECK(one.state() == state::open);
  CHECK_FALSE(one.allow(start + 499ms));
  CHECK(one.allow(start + 500ms));
}

TEST_CASE("a call that was made while the breaker was open, and succeeded, lets the next one probe") {
  breaker one{{}};
  open(one, start);
  CHECK_FALSE(one.succeeded(start + 10ms, one.openings()));
  CHECK(one.state() == state::open);
  CHECK(one.allow(start + 10ms));
  CHECK_FALSE(one.allow(start + 11ms));
  CHECK(one.succeeded(start + 12ms, one.openings()));
  CHECK(one.state() == state::closed);
}

TEST_CASE("millions of calls in a second do not spill into other counts") {
  breaker one{by_ratio()};
  for (int i = 0; i < (1 << 22) + 5; ++i) one.succeeded(start, one.openings());
  for (int i = 0; i < 1'000; ++i) REQUIRE_FALSE(one.failed(start, 0.5));
  for (int i = 0; i < 19; ++i) REQUIRE_FALSE(one.failed(start + 20s, 0.5));  // a later second is counted again
  CHECK(one.failed(start + 20s, 0.5));
}

TEST_CASE("a closed breaker does not remember the failures that opened it") {
  breaker one{by_ratio()};
  open(one, start);
  REQUIRE(one.allow(start + 500ms));
  REQUIRE(one.succeeded(start + 500ms, one.openings()));
  for (int i = 0; i < 19; ++i) CHECK_FALSE(one.failed(start + 500ms, 0.5));
  CHECK(one.failed(start + 500ms, 0.5));
}

TEST_CASE("of threads that ask an overdue breaker together exactly one gets the probe") {
  for (int round = 0; round < 50; ++round) {
    breaker one{{}};
    open(one, start);
    std::atomic<int> passed = 0;
    {
      std::vector<std::jthread> all;
      for (int t = 0; t < 4; ++t) {
        all.emplace_back([&] {
          for (int i = 0; i < 20; ++i) passed += one.allow(start + 1s) ? 1 : 0;
        });
      }
    }
    REQUIRE(passed == 1);
  }
}

TEST_CASE("threads that report together are told of each opening and closing once") {
  breaker one{{}};
  std::atomic<int> openings = 0;
  std::atomic<int> closings = 0;
  {
    std::vector<std::jthread> all;
    for (int t = 0; t < 4; ++t) {
      all.emplace_back([&, t] {
        for (int i = 0; i < 20'000; ++i) {
          const time_point now = start + std::chrono::milliseconds{i};
          if (!one.allow(now)) continue;
          if ((i / 100 + t) % 3 == 0) {
            openings += one.failed(now, 0.5) ? 1 : 0;
          } else {
            closings += one.succeeded(now, one.openings()) ? 1 : 0;
          }
        }
      });
    }
  }
  while (one.state() != state::closed) {
    if (one.allow(start + 1h)) closings += one.succeeded(start + 1h, one.openings()) ? 1 : 0;
  }
  CHECK(openings >= closings);  // a failed probe opens again
  CHECK((openings == 0) == (closings == 0));
}

TEST_CASE("only failures of the server or the way to it count against it") {
  for (const errc code : {errc::timeout, errc::unreachable, errc::connection_lost, errc::not_ready}) {
    CHECK(detail::counts_against_server(code));
  }
  for (const errc code :
       {errc::invalid_name, errc::invalid_option, errc::refused_command, errc::auth, errc::cancelled, errc::closed,
        errc::protocol, errc::unsupported, errc::server, errc::wrong_type, errc::no_permission, errc::no_script,
        errc::read_only, errc::out_of_memory, errc::unexpected_reply, errc::encode, errc::recursive_load}) {
    CHECK_FALSE(detail::counts_against_server(code));
  }
}

TEST_CASE("breaker options out of range are refused by name") {
  CHECK(refusal({}).empty());
  CHECK(refusal({.failure_ratio = 1}).empty());
  const auto names = [](const breaker_options& options, const std::string& field) {
    return refusal(options).find("breaker." + field) != std::string::npos;
  };
  CHECK(names({.consecutive_failures = 0}, "consecutive_failures"));
  CHECK(names({.failure_ratio = 0}, "failure_ratio"));
  CHECK(names({.failure_ratio = 1.1}, "failure_ratio"));
  CHECK(names({.failure_ratio = std::nan("")}, "failure_ratio"));
  CHECK(names({.min_calls = 0}, "min_calls"));
  CHECK(names({.open_for = 0ms}, "open_for"));
  CHECK(names({.open_for = 20s}, "longest_open_for"));
  CHECK(names({.longest_open_for = std::chrono::milliseconds::max()}, "longest_open_for"));
  CHECK(names({.probe_timeout = -1ms}, "probe_timeout"));
}

TEST_CASE("states have names") {
  CHECK(detail::to_string(state::closed) == "closed");
  CHECK(detail::to_string(state::open) == "open");
  CHECK(detail::to_string(state::half_open) == "half_open");
}
