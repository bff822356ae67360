// Who leads a call, who waits for it, and what becomes of those who leave.

#include "limiting/coalescer.hpp"

#include <tenantry/rate_limiter.hpp>

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
using state = td::coalesced_request::state;
using clock = std::chrono::steady_clock;

const td::limit_rules rules{{{.limit = 10}}, tn::limit_placement::tenant};
const td::limited_view name{"acme", "/api/kpi"};

struct request : td::coalesced_request {
  explicit request(td::coalescer& of, const td::limited_view& asked = name, std::uint64_t cost = 1,
                   const td::limit_rules& by = rules)
      : coalesced_request{asked, cost, by} {
    of.join(*this);
  }
};

td::limit_answer grants(std::uint64_t units) {
  td::limit_answer answer;
  answer.granted = units;
  return answer;
}

}  // namespace

TEST_CASE("a request that comes alone leads a call for itself, and leaves nothing behind") {
  td::coalescer calls;
  for (int i = 0; i < 3; ++i) {
    request one{calls};
    CHECK(one.now() == state::leads);
    CHECK(calls.begin(one) == 1);
    CHECK(one.rank() == 0);
    const auto answer = grants(1);
    calls.end(one, &answer, nullptr, {});
  }
}

TEST_CASE("requests that come while a call is on the way share the next one, which the latest leads") {
  td::coalescer calls;
  request first{calls};
  CHECK(calls.begin(first) == 1);
  request a{calls};
  request b{calls};
  request c{calls};
  CHECK(a.now() == state::waits);
  CHECK(c.now() == state::waits);
  const auto alone = grants(1);
  calls.end(first, &alone, nullptr, {});
  CHECK(a.now() == state::waits);
  CHECK(b.now() == state::waits);
  REQUIRE(c.now() == state::leads);
  request before_it_begins{calls};  // still goes along
  REQUIRE(calls.begin(c) == 4);
  request late{calls};  // does not
  const auto answer = grants(2);
  const auto received = clock::now();
  calls.end(c, &answer, nullptr, received);
  CHECK(a.now() == state::ended);
  CHECK(before_it_begins.now() == state::ended);
  CHECK(a.rank() == 0);
  CHECK(b.rank() == 1);
  CHECK(c.rank() == 2);
  CHECK(before_it_begins.rank() == 3);
  REQUIRE(a.call().answer);
  CHECK(a.call().answer->granted == 2);
  CHECK(a.call().received == received);
  REQUIRE(late.now() == state::leads);
  CHECK(calls.begin(late) == 1);
  calls.end(late, &alone, nullptr, {});
  const request after{calls};
  CHECK(after.now() == state::leads);
}

TEST_CASE("requests of another name, cost or version of the limits go by themselves") {
  td::coalescer calls;
  const td::limit_rules others{{{.limit = 10}}, tn::limit_placement::tenant};
  const request first{calls};
  const request tenant{calls, {"globex", "/api/kpi"}};
  const request path{calls, {"acme", "/api"}};
  const request cost{calls, name, 2};
  const request version{calls, name, 1, others};
  for (const auto* each : {&tenant, &path, &cost, &version}) CHECK(each->now() == state::leads);
  const request query{calls, {"acme", "/api/kpi?page=2"}};
  CHECK(query.now() == state::waits);
}

TEST_CASE("who leaves before the call began is not asked for; afterwards nobody knows what became of it") {
  td::coalescer calls;
  request first{calls};
  calls.begin(first);
  request a{calls};
  request b{calls};
  request c{calls};
  CHECK(calls.leave(a) == std::optional{tn::execution::not_sent});
  const auto one = grants(1);
  calls.end(first, &one, nullptr, {});
  CHECK_FALSE(calls.leave(c));  // leads by now, and has to
  CHECK(calls.begin(c) == 2);
  CHECK(b.rank() == 0);
  CHECK(c.rank() == 1);
  CHECK(calls.leave(b) == std::optional{tn::execution::unknown});
  calls.end(c, &one, nullptr, {});
  CHECK_FALSE(calls.leave(c));
}

TEST_CASE("a call that all have left is not made") {
  td::coalescer calls;
  request first{calls};
  calls.begin(first);
  {
    request a{calls};
    CHECK(calls.leave(a));
  }
  const auto one = grants(1);
  calls.end(first, &one, nullptr, {});
  const request next{calls};
  CHECK(next.now() == state::leads);
}

TEST_CASE("a failure is the failure of all who share the call") {
  td::coalescer calls;
  request first{calls};
  calls.begin(first);
  request a{calls};
  request b{calls};
  const auto one = grants(1);
  calls.end(first, &one, nullptr, {});
  calls.begin(b);
  calls.end(b, nullptr, std::make_shared<const tn::error>(tn::errc::timeout, tn::execution::unknown, "late"), {});
  CHECK_FALSE(a.call().answer);
  REQUIRE(a.call().failure);
  CHECK(a.call().failure->code() == tn::errc::timeout);
}

TEST_CASE("threads and coroutines that wait are woken when they lead and when their call has ended") {
  td::coalescer calls;
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
    const auto two = grants(2);
    calls.end(mine, &two, nullptr, {});
  }};
  // Joined or not, it leads the next call or goes along with the one after it.
  while (calls.waiting(first) < 2) std::this_thread::yield();
  const auto one = grants(1);
  calls.end(first, &one, nullptr, {});
  thread.join();
  CHECK(seen == std::optional{state::leads});
  CHECK(changed.stop_requested());
  CHECK(coroutine.now() == state::ended);
  CHECK(calls.changed(coroutine).stop_requested());
}

TEST_CASE("a thread that waits in vain wakes up at its time") {
  td::coalescer calls;
  request first{calls};
  calls.begin(first);
  request late{calls};
  const auto until = clock::now() + 20ms;
  calls.sleep_until(late, until);
  CHECK(clock::now() >= until);
  CHECK(late.now() == state::waits);
}
