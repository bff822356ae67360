// How long a coroutine waits for a call: its deadline, its stop_token, and a server that is away.

#include "support/async_calls.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::caught;
using support::eventually;
using support::failure_of;
using support::has_ended;
using support::lane_of;
using support::result_of;
using support::started;
using support::under_way;
using testing::redis_server;

/// A client that writes one command at a time, so that the others wait.
client_options one_at_a_time(const redis_server& server) {
  client_options options = client_options::from_url(server.url());
  options.bounds.in_flight = 1;
  return options;
}

bool is(const caught& how, errc code, execution what) { return how.code == code && how.execution == what; }

/// A call to a frozen server that was written, and keeps a client that is `one_at_a_time` from writing others.
under_way<reply> written(const client& redis, const std::string& text) {
  auto call = started(redis.with({.timeout = 60s}).async_execute("ECHO", text));
  REQUIRE(eventually([&] { return lane_of(redis).in_flight == 1; }));
  return call;
}

}  // namespace

TEST_CASE("a deadline that passes after a call was written leaves its execution unknown, and later calls work") {
  support::need_redis();
  redis_server server;
  client redis{server.url()};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  for (int i = 0; i < 20; ++i) {
    const auto fault = failure_of(redis.with({.timeout = 5ms}).async_execute("ECHO", "late" + std::to_string(i)));
    CHECK((is(fault, errc::timeout, execution::unknown) || is(fault, errc::timeout, execution::not_sent)));
  }
  CHECK(is(failure_of(redis.with({.timeout = 500ms}).async_execute("INCR", "n")), errc::timeout, execution::unknown));
  server.resume();
  const caller patient = redis.with({.timeout = 20s});
  for (int i = 0; i < 20; ++i) {
    const std::string own = "mine" + std::to_string(i);
    CHECK(sync_wait(patient.async_execute("ECHO", own)).str() == own);
  }
  CHECK(sync_wait(patient.async_execute("GET", "n")).str() == "1");
}

TEST_CASE("a deadline that passes before a call was written leaves it not sent") {
  support::need_redis();
  redis_server server;
  client redis{one_at_a_time(server)};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  auto first = written(redis, "first");
  const auto fault = failure_of(redis.with({.timeout = 50ms}).async_execute("SET", "k", "v"));
  CHECK(is(fault, errc::timeout, execution::not_sent));
  server.resume();
  CHECK(result_of(first).str() == "first");
  CHECK(sync_wait(redis.async_execute("EXISTS", "k")).integer() == 0);
}

TEST_CASE("a deadline that passes while connecting leaves a call not sent") {
  support::need_redis();
  redis_server server;
  server.pause();
  client redis{server.url()};
  const auto fault = failure_of(redis.with({.timeout = 50ms}).async_execute("SET", "k", "v"));
  CHECK(is(fault, errc::timeout, execution::not_sent));
  server.resume();
  const caller patient = redis.with({.timeout = 20s});
  CHECK(sync_wait(patient.async_execute("EXISTS", "k")).integer() == 0);
}

TEST_CASE("where nobody listens a call that waits is unreachable at its deadline, and not sent") {
  client redis{"redis://127.0.0.1:1"};
  const auto begin = std::chrono::steady_clock::now();
  const auto fault = failure_of(redis.with({.timeout = 300ms}).async_execute("PING"));
  CHECK(is(fault, errc::unreachable, execution::not_sent));
  CHECK(fault.text.find("redis://127.0.0.1:1") != std::string::npos);
  CHECK(std::chrono::steady_clock::now() - begin >= 300ms);
}

TEST_CASE("with when_down::fail a call where nobody listens fails at once") {
  client redis{"redis://127.0.0.1:1"};
  const caller hasty = redis.with({.timeout = 600s, .down = when_down::fail});
  for (int i = 0; i < 10; ++i)
    CHECK(is(failure_of(hasty.async_execute("PING")), errc::unreachable, execution::not_sent));
}

TEST_CASE("with when_down::wait a call is served when its server is back") {
  support::need_redis();
  redis_server server;
  client redis{server.url()};
  CHECK(sync_wait(redis.async_execute("PING")).str() == "PONG");
  server.kill();
  auto patient = started(redis.with({.timeout = 60s, .down = when_down::wait}).async_execute("SET", "k", "v"));
  const auto hasty = failure_of(redis.with({.timeout = 60s, .down = when_down::fail}).async_execute("PING"));
  // It may have met the end of the connection; otherwise an attempt to connect has failed.
  CHECK((hasty.code == errc::unreachable || hasty.code == errc::connection_lost));
  CHECK(is(failure_of(redis.with({.timeout = 60s, .down = when_down::fail}).async_execute("PING")), errc::unreachable,
           execution::not_sent));
  server.start();
  bool lost = false;
  try {
    CHECK(result_of(patient).str() == "OK");
  } catch (const error& fault) {  // written before the client saw that the server was gone
    lost = fault.code() == errc::connection_lost && fault.execution() == execution::unknown;
    CHECK(lost);
  }
  CHECK(sync_wait(redis.with({.timeout = 20s}).async_execute("EXISTS", "k")).integer() == (lost ? 0 : 1));
}

TEST_CASE("a call before its server runs is served when it does, without a deadline too") {
  support::need_redis();
  redis_server server;
  server.kill();
  client redis{server.url()};
  auto limited = started(redis.with({.timeout = 60s}).async_execute("INCR", "n"));
  auto unlimited = started(redis.with({.timeout = no_timeout}).async_execute("INCR", "n"));
  CHECK(is(failure_of(redis.with({.timeout = 60s, .down = when_down::fail}).async_execute("PING")), errc::unreachable,
           execution::not_sent));
  CHECK_FALSE(has_ended(limited));
  CHECK_FALSE(has_ended(unlimited));
  server.start();
  CHECK(result_of(limited).integer() == 1);
  CHECK(result_of(unlimited).integer() == 2);
}

TEST_CASE("a call whose stop_token was triggered before is cancelled, and not sent") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  std::stop_source source;
  source.request_stop();
  const caller stoppable = redis.with({.timeout = 60s, .stop = source.get_token()});
  CHECK(is(failure_of(stoppable.async_execute("SET", "k", "v")), errc::cancelled, execution::not_sent));
  CHECK(sync_wait(redis.async_execute("EXISTS", "k")).integer() == 0);
}

TEST_CASE("a stop_token ends a call at once: before it was written as not sent, afterwards as unknown") {
  support::need_redis();
  redis_server server;
  client redis{one_at_a_time(server)};
  std::stop_source source;
  const caller stoppable = redis.with({.timeout = 600s, .stop = source.get_token()});

  SECTION("while it waits for the connection") {
    server.pause();
    auto connecting = started(stoppable.async_execute("SET", "k", "v"));
    source.request_stop();
    CHECK(is(failure_of(connecting), errc::cancelled, execution::not_sent));
  }
  SECTION("while it waits to be written") {
    sync_wait(redis.async_execute("PING"));
    server.pause();
    auto first = written(redis, "first");
    auto queued = started(stoppable.async_execute("SET", "k", "v"));
    source.request_stop();
    CHECK(is(failure_of(queued), errc::cancelled, execution::not_sent));
    server.resume();
    CHECK(result_of(first).str() == "first");
    CHECK(sync_wait(redis.async_execute("EXISTS", "k")).integer() == 0);
  }
  SECTION("while it waits for the reply") {
    sync_wait(redis.async_execute("PING"));
    server.pause();
    auto sent = started(stoppable.async_execute("SET", "k", "v"));
    REQUIRE(eventually([&] { return lane_of(redis).in_flight == 1; }));
    source.request_stop();
    CHECK(is(failure_of(sent), errc::cancelled, execution::unknown));
    server.resume();
    CHECK(sync_wait(redis.with({.timeout = 20s}).async_execute("GET", "k")).str() == "v");  // it was only the waiting
  }
  SECTION("after it has ended, when it changes nothing") {
    CHECK(sync_wait(stoppable.async_execute("SET", "k", "v")).str() == "OK");
    source.request_stop();
    CHECK(sync_wait(redis.async_execute("GET", "k")).str() == "v");
  }
}

TEST_CASE("cancelled calls detach their waiters alone: the calls around them get their own replies") {
  support::need_redis();
  redis_server server;
  client redis{server.url()};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  std::stop_source source;
  const caller stoppable = redis.with({.timeout = 60s, .stop = source.get_token()});
  const caller patient = redis.with({.timeout = 60s});
  std::vector<under_way<reply>> calls;
  for (int i = 0; i < 100; ++i) {
    calls.push_back(started((i % 3 == 0 ? stoppable : patient).async_execute("ECHO", i)));
  }
  REQUIRE(eventually([&] { return lane_of(redis).in_flight == 100; }));
  source.request_stop();
  for (std::size_t i = 0; i < 100; i += 3) CHECK(is(failure_of(calls[i]), errc::cancelled, execution::unknown));
  server.resume();
  for (std::size_t i = 0; i < 100; ++i) {
    if (i % 3 != 0) CHECK(result_of(calls[i]).str() == std::to_string(i));
  }
  CHECK(sync_wait(patient.async_execute("ECHO", "next")).str() == "next");
}

TEST_CASE("stopped at any moment a call ends once, with its own reply or cancelled") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  sync_wait(redis.async_execute("PING"));
  support::random_bytes random;
  int wrong = 0;
  int cancelled = 0;
  for (int i = 0; i < 500; ++i) {
    std::stop_source source;
    // At once every fourth time: a thread that yields on a busy machine comes back after the reply.
    const auto pause = std::chrono::microseconds{i % 4 == 0 ? 0 : random.below(200)};
    auto call = started(redis.with({.timeout = 20s, .stop = source.get_token()}).async_execute("ECHO", i));
    const auto until = std::chrono::steady_clock::now() + pause;
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
    source.request_stop();
    try {
      if (result_of(call).str() != std::to_string(i)) ++wrong;
    } catch (const timeout_error& fault) {
      fault.code() == errc::cancelled ? ++cancelled : ++wrong;
    }
  }
  CHECK(wrong == 0);
  CHECK(cancelled > 0);
  CHECK(sync_wait(redis.async_execute("ECHO", "last")).str() == "last");
}
