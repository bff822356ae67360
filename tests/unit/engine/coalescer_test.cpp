// Who leads a call, who waits for it, and what becomes of those who leave.

#include "engine/coalescer.hpp"

#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

struct question {
  int what = 0;
  [[nodiscard]] std::size_t hash() const noexcept { return static_cast<std::size_t>(what % 2); }  // some share it
  friend bool operator==(const question&, const question&) = default;
};
struct outcome {
  std::optional<int> answer = std::nullopt;
  std::shared_ptr<const tn::error> failure = nullptr;
};
using coalescer = td::coalescer<question, outcome, 4>;
using state = coalescer::state;

struct request : coalescer::request {
  explicit request(coalescer& of, int what = 0) : coalescer::request{question{what}} { of.join(*this); }
};

}  // namespace

TEST_CASE("a request that comes alone leads a call for itself, and leaves nothing behind") {
  coalescer calls;
  for (int i = 0; i < 3; ++i) {
    request one{calls};
    CHECK(one.now() == state::leads);
    CHECK(calls.begin(one) == 1);
    CHECK(one.rank() == 0);
    calls.end(one, {.answer = 1});
  }
}

TEST_CASE("requests that come while a call is on the way share the next one, which the latest leads") {
  coalescer calls;
  request first{calls};
  CHECK(calls.begin(first) == 1);
  request a{calls};
  request b{calls};
  request c{calls};
  CHECK(a.now() == state::waits);
  CHECK(c.now() == state::waits);
  calls.end(first, {.answer = 1});
  CHECK(a.now() == state::waits);
  CHECK(b.now() == state::waits);
  REQUIRE(c.now() == state::leads);
  request before_it_begins{calls};  // still goes along
  REQUIRE(calls.begin(c) == 4);
  request late{calls};  // does not
  calls.end(c, {.answer = 2});
  CHECK(a.now() == state::ended);
  CHECK(before_it_begins.now() == state::ended);
  CHECK(a.rank() == 0);
  CHECK(b.rank() == 1);
  CHECK(c.rank() == 2);
  CHECK(before_it_begins.rank() == 3);
  CHECK(a.outcome().answer == 2);
  REQUIRE(late.now() == state::leads);
  CHECK(calls.begin(late) == 1);
  calls.end(late, {.answer = 1});
  const request after{calls};
  CHECK(after.now() == state::leads);
}

TEST_CASE("requests with another question go by themselves") {
  coalescer calls;
  const request first{calls, 0};
  const request second{calls, 1};
  const request of_the_same_hash{calls, 2};
  for (const auto* each : {&second, &of_the_same_hash}) CHECK(each->now() == state::leads);
  const request again{calls, 2};
  CHECK(again.now() == state::waits);
}

TEST_CASE("who leaves before the call began is not asked for; afterwards nobody knows what became of it") {
  coalescer calls;
  request first{calls};
  calls.begin(first);
  request a{calls};
  request b{calls};
  request c{calls};
  CHECK(calls.leave(a) == std::optional{tn::execution::not_sent});
  calls.end(first, {.answer = 1});
  CHECK_FALSE(calls.leave(c));  // leads by now, and has to
  CHECK(calls.begin(c) == 2);
  CHECK(b.rank() == 0);
  CHECK(c.rank() == 1);
  CHECK(calls.leave(b) == std::optional{tn::execution::unknown});
  calls.end(c, {.answer = 1});
  CHECK_FALSE(calls.leave(c));
}

TEST_CASE("a call that all have left is not made") {
  coalescer calls;
  request first{calls};
  calls.begin(first);
  {
    request a{calls};
    CHECK(calls.leave(a));
  }
  calls.end(first, {.answer = 1});
  const request next{calls};
  CHECK(next.now() == state::leads);
}

TEST_CASE("a failure is the failure of all who share the call") {
  coalescer calls;
  request first{calls};
  calls.begin(first);
  request a{calls};
  request b{calls};
  calls.end(first, {.answer = 1});
  calls.begin(b);
  calls.end(b, {.failure = std::make_shared<const tn::error>(tn::errc::timeout, tn::execution::unknown, "late")});
  CHECK_FALSE(a.outcome().answer);
  REQUIRE(a.outcome().failure);
  CHECK(a.outcome().failure->code() == tn::errc::timeout);
}

TEST_CASE("threads and coroutines that wait are woken when they lead and when their call has ended") {
  coalescer calls;
  request first{calls};
  calls.begin(first);
  request coroutine{calls};
  const std::stop_token changed = calls.changed(coroutine);
  CHECK_FALSE(changed.stop_requested());
  std::optional<state> seen;
  std::thread thread{[&] {
    request mine{calls};
    calls.sleep_until(mine, clock::time_point::max());
    seen = mine.now();
    if (mine.now() != state::leads) return;
    calls.begin(mine);
    calls.end(mine, {.answer = 2});
  }};
  // Joined or not, it leads the next call or goes along with the one after it.
  while (calls.waiting(first) < 2) std::this_thread::yield();
  calls.end(first, {.answer = 1});
  thread.join();
  CHECK(seen == std::optional{state::leads});
  CHECK(changed.stop_requested());
  CHECK(coroutine.now() == state::ended);
  CHECK(calls.changed(coroutine).stop_requested());
}

TEST_CASE("a thread that waits in vain wakes up at its time") {
  coalescer calls;
  request first{calls};
  calls.begin(first);
  request late{calls};
  const auto until = clock::now() + 20ms;
  calls.sleep_until(late, until);
  CHECK(clock::now() >= until);
  CHECK(late.now() == state::waits);
}

TEST_CASE("a thread that waits is woken by its token, before and while it sleeps") {
  coalescer calls;
  request first{calls};
  calls.begin(first);
  request mine{calls};
  std::stop_source early;
  early.request_stop();
  calls.sleep_until(mine, clock::time_point::max(), early.get_token());
  CHECK(mine.now() == state::waits);
  std::stop_source stop;
  std::thread sleeping{[&] { calls.sleep_until(mine, clock::time_point::max(), stop.get_token()); }};
  stop.request_stop();
  sleeping.join();
  CHECK(mine.now() == state::waits);
}

TEST_CASE("a leader that resigns before or after its call began leaves it to another one of that call") {
  coalescer calls;
  request first{calls};
  calls.begin(first);
  request a{calls};
  request b{calls};
  request c{calls};
  calls.end(first, {.answer = 1});
  REQUIRE(c.now() == state::leads);
  calls.resign(c);
  REQUIRE(b.now() == state::leads);
  CHECK(calls.begin(b) == 2);
  request later{calls};  // for the next one, whoever leads this one
  calls.resign(b);
  REQUIRE(a.now() == state::leads);
  CHECK(calls.begin(a) == 1);
  calls.end(a, {.answer = 2});
  CHECK(a.outcome().answer == 2);
  REQUIRE(later.now() == state::leads);
  CHECK(calls.begin(later) == 1);
  calls.resign(later);
  request alone{calls};
  REQUIRE(alone.now() == state::leads);
  calls.begin(alone);
  request last{calls};
  calls.resign(alone);
  CHECK(last.now() == state::leads);
  calls.resign(last);
  const request after{calls};
  CHECK(after.now() == state::leads);
}
