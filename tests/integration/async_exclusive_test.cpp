// An exclusive connection of coroutines, against a real server.

#include "support/async_calls.hpp"
#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/exclusive_rig.hpp"

#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::eventually;
using support::failure_of;
using support::is;
using support::result_of;
using support::started;
using rig = support::exclusive_rig;

std::int64_t id_of(async_exclusive_connection& own) {
  auto asked = started(own.async_execute("CLIENT", "ID"));
  return result_of(asked).integer();
}

std::vector<reply> all_of(async_exclusive_connection& own, std::vector<command> commands) {
  auto asked = started(own.async_execute_all(std::move(commands)));
  return result_of(asked);
}

/// The connection is gone for its owner, and whoever takes the next one gets another.
void is_lost(rig& on, async_exclusive_connection own, std::int64_t id) {
  for (int i = 0; i < 2; ++i) {
    CHECK(is(failure_of(own.async_execute("PING")), errc::connection_lost, execution::not_sent));
  }
  CHECK(eventually([&] { return !on.connected(id); }));
  { const async_exclusive_connection given_back = std::move(own); }
  async_exclusive_connection next = on.redis.async_exclusive();
  CHECK(id_of(next) != id);
}

task<std::string> first_job(const client& redis) {
  async_exclusive_connection own = redis.async_exclusive();
  const reply job = co_await own.async_execute_for(30s, "BLPOP", "jobs", 25);
  co_return job[1].str();
}

/// Adds 5 to a balance, unless somebody else touches it after it was looked at.
task<bool> add_five(async_exclusive_connection& own, client& meanwhile, bool somebody_else) {
  co_await own.async_execute("WATCH", "balance");
  if (somebody_else) co_await meanwhile.async_execute("SET", "balance", 100);
  co_await own.async_execute("MULTI");
  co_await own.async_execute("INCRBY", "balance", 5);
  const reply result = co_await own.async_execute("EXEC");
  co_return !result.is_nil();
}

/// Gives its connection back, with a MULTI open, on the thread where its reply came.
task<std::int64_t> leaves_open(const client& redis) {
  async_exclusive_connection own = redis.async_exclusive();
  const reply id = co_await own.async_execute("CLIENT", "ID");
  co_await own.async_execute("MULTI");
  co_return id.integer();
}

}  // namespace

TEST_CASE("a BLPOP that a coroutine awaits is answered by what another client pushes, and holds up nobody else") {
  rig on;
  auto popped = started(first_job(on.redis));
  REQUIRE(on.has_blocked(1));
  auto meanwhile = started(on.redis.async_execute("PING"));
  CHECK(result_of(meanwhile).str() == "PONG");
  on.other.execute("RPUSH", "jobs", "first");
  CHECK(result_of(popped) == "first");
}

TEST_CASE("coroutines that wait for lists take a connection each, and no thread") {
  rig on;
  std::vector<support::under_way<std::string>> popped;
  for (int i = 0; i < 40; ++i) popped.push_back(started(first_job(on.redis)));
  REQUIRE(on.has_blocked(40));
  for (int i = 0; i < 40; ++i) on.other.execute("RPUSH", "jobs", "job");
  for (auto& each : popped) CHECK(result_of(each) == "job");
}

TEST_CASE(
    "a coroutine's EXEC runs what was queued when nobody touched the watched key, and nothing when somebody did") {
  rig on;
  on.other.execute("SET", "balance", 10);
  async_exclusive_connection own = on.redis.async_exclusive();
  auto untouched = started(add_five(own, on.redis, false));
  CHECK(result_of(untouched));
  CHECK(on.other.execute("GET", "balance").str() == "15");
  auto touched = started(add_five(own, on.redis, true));
  CHECK_FALSE(result_of(touched));
  CHECK(on.other.execute("GET", "balance").str() == "100");
}

TEST_CASE("a coroutine's whole transaction goes in one call, with errors as values") {
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  const auto replies = all_of(
      own, {command{"MULTI"}, command{"SET", "k", "text"}, command{"INCR", "k"}, command{"GET", "k"}, command{"EXEC"}});
  REQUIRE(replies.size() == 5);
  CHECK(replies[1].str() == "QUEUED");
  CHECK(replies[4][1].is_error());
  CHECK(replies[4][2].str() == "text");
  CHECK(all_of(own, {}).empty());
}

TEST_CASE("a coroutine's connection is used again when it is clean, and closed when a WATCH or a MULTI is open") {
  rig on;
  const std::vector<std::vector<command>> clean{{command{"PING"}},
                                                {command{"WATCH", "k"}, command{"MULTI"}, command{"EXEC"}},
                                                {command{"WATCH", "k"}, command{"UNWATCH"}}};
  const std::vector<std::vector<command>> left_open{{command{"WATCH", "k"}}, {command{"MULTI"}}};
  std::int64_t before = 0;
  for (const auto& commands : clean) {
    async_exclusive_connection own = on.redis.async_exclusive();
    if (before != 0) CHECK(id_of(own) == before);
    before = id_of(own);
    all_of(own, commands);
  }
  for (const auto& commands : left_open) {
    {
      async_exclusive_connection own = on.redis.async_exclusive();
      before = id_of(own);
      all_of(own, commands);
    }
    CHECK(eventually([&] { return !on.connected(before); }));
    async_exclusive_connection next = on.redis.async_exclusive();
    CHECK(id_of(next) != before);
  }
}

TEST_CASE("a connection may be given back on the thread that drives it") {
  rig on{inline_executor()};
  for (int i = 0; i < 20; ++i) {
    auto left = started(leaves_open(on.redis));
    const std::int64_t id = result_of(left);
    CHECK(eventually([&] { return !on.connected(id); }));
  }
}

TEST_CASE(
    "what the next user of a coroutine's connection would inherit is refused, and an error reply changes nothing") {
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  const std::int64_t id = id_of(own);
  CHECK(is(failure_of(own.async_execute("SELECT", 1)), errc::refused_command, execution::not_sent));
  CHECK(is(failure_of(own.async_execute_all({command{"SET", "k", 1}, command{"SELECT", 1}})), errc::refused_command,
           execution::not_sent));
  CHECK(on.other.execute("EXISTS", "k").integer() == 0);
  CHECK(failure_of(own.async_execute("EXEC")).code == errc::server);
  CHECK(id_of(own) == id);
}

TEST_CASE("a deadline that passes before the answer loses a coroutine's exclusive connection") {
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  const std::int64_t id = id_of(own);
  CHECK(is(failure_of(own.async_execute_for(50ms, "BLPOP", "jobs", 0)), errc::timeout, execution::unknown));
  is_lost(on, std::move(own), id);
  on.other.execute("RPUSH", "jobs", "kept");  // no dead waiter takes it
  CHECK(on.other.execute("LLEN", "jobs").integer() == 1);
}

TEST_CASE("a stop token ends a coroutine's BLPOP that waits for ever, and loses the connection") {
  const support::must_end limit;
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  const std::int64_t id = id_of(own);
  std::stop_source stop;
  const call_options how{.timeout = no_timeout, .stop = stop.get_token()};
  auto popped = started(own.async_execute(command{"BLPOP", "jobs", 0}, how));
  REQUIRE(on.has_blocked(1));
  stop.request_stop();
  CHECK(is(failure_of(popped), errc::cancelled, execution::unknown));
  is_lost(on, std::move(own), id);
}

TEST_CASE("a coroutine's call whose token was triggered before is not sent, and the connection goes on") {
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  const std::int64_t id = id_of(own);
  std::stop_source stop;
  stop.request_stop();
  const call_options how{.stop = stop.get_token()};
  CHECK(is(failure_of(own.async_execute(command{"SET", "k", 1}, how)), errc::cancelled, execution::not_sent));
  CHECK(on.other.execute("EXISTS", "k").integer() == 0);
  CHECK(id_of(own) == id);
}

TEST_CASE("a server that is killed leaves a coroutine's BLPOP unknown, and its connection lost") {
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  auto popped = started(own.async_execute_for(no_timeout, "BLPOP", "jobs", 0));
  REQUIRE(on.has_blocked(1));
  on.server.kill();
  CHECK(is(failure_of(popped), errc::connection_lost, execution::unknown));
  on.server.start();
  CHECK(is(failure_of(own.async_execute("PING")), errc::connection_lost, execution::not_sent));
}

TEST_CASE("a coroutine's connection that is killed between calls loses its transaction with it") {
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  all_of(own, {command{"MULTI"}, command{"SET", "k", 1}});
  on.kill_connections();
  CHECK(failure_of(own.async_execute("EXEC")).code == errc::connection_lost);
  CHECK(is(failure_of(own.async_execute("EXEC")), errc::connection_lost, execution::not_sent));
  CHECK(on.other.execute("EXISTS", "k").integer() == 0);
}

TEST_CASE("a coroutine's connection that was killed while nobody had it is not given to the next") {
  rig on;
  std::int64_t id = 0;
  {
    async_exclusive_connection own = on.redis.async_exclusive();
    id = id_of(own);
  }
  on.kill_connections();
  CHECK(eventually([&] {
    async_exclusive_connection next = on.redis.async_exclusive();
    auto asked = started(next.async_execute("CLIENT", "ID"));
    try {
      return result_of(asked).integer() != id;
    } catch (const connection_error&) {
      return false;  // taken before the I/O thread had seen the end
    }
  }));
}

TEST_CASE("exclusive connections of threads and coroutines count together") {
  rig on;
  client_options options = support::undeterred(on.server.url());
  options.bounds.exclusive_connections = 2;
  client redis{options};
  const exclusive_connection first = redis.exclusive();
  std::optional<async_exclusive_connection> second = redis.async_exclusive();
  CHECK(is(failure_of([&] { static_cast<void>(redis.async_exclusive()); }), errc::overloaded, execution::not_sent));
  CHECK(is(failure_of([&] { static_cast<void>(redis.exclusive()); }), errc::overloaded, execution::not_sent));
  second.reset();
  CHECK(redis.exclusive().execute("PING").str() == "PONG");
}

TEST_CASE("a second call while another one is under way is refused") {
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  auto popped = started(own.async_execute_for(no_timeout, "BLPOP", "jobs", 0));
  REQUIRE(on.has_blocked(1));
  CHECK(is(failure_of(own.async_execute("PING")), errc::refused_command, execution::not_sent));
  on.other.execute("RPUSH", "jobs", "first");
  CHECK(result_of(popped)[1].str() == "first");
  auto next = started(own.async_execute("PING"));
  CHECK(result_of(next).str() == "PONG");
}

TEST_CASE("a task that begins after its connection was given back is refused, and the next owner is left alone") {
  rig on;
  std::optional<async_exclusive_connection> own = on.redis.async_exclusive();
  const std::int64_t id = id_of(*own);
  auto late = own->async_execute("MULTI");
  own.reset();
  async_exclusive_connection next = on.redis.async_exclusive();
  CHECK(is(failure_of(std::move(late)), errc::connection_lost, execution::not_sent));
  CHECK(id_of(next) == id);
}

TEST_CASE("a connection that is destroyed during a call ends the call and itself") {
  rig on;
  SECTION("on the pool") {}
  SECTION("with a second one at the same time") { CHECK(on.redis.exclusive().execute("PING").str() == "PONG"); }
  std::optional<async_exclusive_connection> own = on.redis.async_exclusive();
  const std::int64_t id = id_of(*own);
  auto popped = started(own->async_execute_for(no_timeout, "BLPOP", "jobs", 0));
  REQUIRE(on.has_blocked(1));
  own.reset();
  CHECK(is(failure_of(popped), errc::closed, execution::unknown));
  CHECK(eventually([&] { return !on.connected(id); }));
}

TEST_CASE("close ends a coroutine's exclusive call that blocks, and later ones are refused") {
  const support::must_end limit;
  rig on;
  async_exclusive_connection own = on.redis.async_exclusive();
  std::int64_t given_back = 0;
  {
    async_exclusive_connection another = on.redis.async_exclusive();
    given_back = id_of(another);
  }
  auto popped = started(own.async_execute_for(no_timeout, "BLPOP", "jobs", 0));
  REQUIRE(on.has_blocked(1));
  on.redis.close(10ms);
  CHECK(is(failure_of(popped), errc::closed, execution::unknown));
  CHECK(on.has_blocked(0));
  CHECK(eventually([&] { return !on.connected(given_back); }));
  CHECK(is(failure_of(own.async_execute("PING")), errc::closed, execution::not_sent));
  CHECK(is(failure_of([&] { static_cast<void>(on.redis.async_exclusive()); }), errc::closed, execution::not_sent));
}

TEST_CASE("a coroutine's connection moves with what is open on it, and an assignment gives the former one back") {
  rig on;
  async_exclusive_connection first = on.redis.async_exclusive();
  const std::int64_t first_id = id_of(first);
  async_exclusive_connection moved = std::move(first);
  CHECK(id_of(moved) == first_id);
  async_exclusive_connection second = on.redis.async_exclusive();
  const std::int64_t second_id = id_of(second);
  all_of(second, {command{"MULTI"}});
  moved = std::move(second);
  async_exclusive_connection reused = on.redis.async_exclusive();
  CHECK(id_of(reused) == first_id);
  { const async_exclusive_connection ends = std::move(moved); }  // with the MULTI
  CHECK(eventually([&] { return !on.connected(second_id); }));
}

TEST_CASE("after a fork a coroutine's exclusive connection is the parent's alone") {
  rig on;
  std::optional<async_exclusive_connection> own = on.redis.async_exclusive();
  all_of(*own, {command{"MULTI"}});
  const int told = support::in_child([&] {
    try {
      static_cast<void>(on.redis.async_exclusive());
      return 1;
    } catch (const connection_error& fault) {
      if (fault.code() != errc::forked || fault.execution() != execution::not_sent) return 2;
    }
    own.reset();
    return 0;
  });
  CHECK(told == 0);
  const auto replies = all_of(*own, {command{"SET", "k", 1}, command{"EXEC"}});
  CHECK(replies[1][0].str() == "OK");
}
