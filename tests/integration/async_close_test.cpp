// The end of a client that coroutines use.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
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
using support::lane_of;
using support::result_of;
using support::started;
using support::under_way;
using testing::redis_server;

bool is_closed(const caught& how, execution what) { return how.code == errc::closed && how.execution == what; }

/// Where a call ended: with its own reply, refused before it was sent, or otherwise.
enum class outcome : unsigned char { own, refused, other };

outcome outcome_of(under_way<reply>& call, std::size_t number) {
  try {
    return result_of(call).str() == std::to_string(number) ? outcome::own : outcome::other;
  } catch (const connection_error& fault) {
    const bool refused = fault.code() == errc::closed && fault.execution() == execution::not_sent;
    return refused ? outcome::refused : outcome::other;
  }
}

/// For another thread than the test's; unexpected_reply where nothing was thrown.
template <class Action>
errc code_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const error& fault) {
    return fault.code();
  }
  return errc::unexpected_reply;
}

void echo(const caller& through, std::vector<under_way<reply>>& calls, int count) {
  for (int i = 0; i < count; ++i) calls.push_back(started(through.async_execute("ECHO", calls.size())));
}

task<bool> close_after_a_call(client& redis) {
  co_await redis.async_execute("PING");
  redis.close(20s);
  try {
    co_await redis.async_execute("PING");
  } catch (const connection_error& fault) {
    co_return fault.code() == errc::closed&& fault.execution() == execution::not_sent;
  }
  co_return false;
}

/// Closes its client on the I/O thread, where the deadline of a call leads it.
task<bool> close_after_a_deadline(client& redis) {
  const caller hurried = redis.with({.timeout = 20ms});
  try {
    co_await hurried.async_execute("PING");
    co_return false;
  } catch (const timeout_error&) {  // NOLINT(bugprone-empty-catch): what it waits for
  }
  redis.close(50ms);
  co_return true;
}

task<reply> last_user(std::unique_ptr<client> redis) {
  reply answer = co_await redis->async_execute("PING");
  redis.reset();
  co_return answer;
}

}  // namespace

TEST_CASE("a closed client refuses calls, with nothing sent") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  auto made_before = redis.async_execute("SET", "k", "v");
  SECTION("that was never used") {}
  SECTION("that was used") { sync_wait(redis.async_execute("PING")); }
  redis.close();
  CHECK(is_closed(failure_of(std::move(made_before)), execution::not_sent));
  CHECK(is_closed(failure_of(redis.async_execute("SET", "k", "v")), execution::not_sent));
  CHECK(is_closed(failure_of(redis.async_execute_all({command{"SET", "k", "v"}})), execution::not_sent));
  redis.close();
  CHECK(support::ask(server, "EXISTS k") == ":0");
}

TEST_CASE("close waits for the calls under way, and they get their replies") {
  support::need_redis();
  redis_server server;
  client_options options = client_options::from_url(server.url());
  options.bounds.in_flight = 10;
  options.timeout = 60s;
  client redis{options};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  std::vector<under_way<reply>> calls;
  echo(redis, calls, 100);
  REQUIRE(eventually([&] { return lane_of(redis).in_flight == 10; }));
  auto closing = support::on_thread([&] { redis.close(60s); });
  REQUIRE(eventually([&] {
    auto probe = started(redis.async_execute("ECHO", "late"));
    return support::has_ended(probe);  // refused at once
  }));
  CHECK(closing.wait_for(0s) == std::future_status::timeout);
  server.resume();
  closing.get();
  for (std::size_t i = 0; i < calls.size(); ++i) CHECK(outcome_of(calls[i], i) == outcome::own);
}

TEST_CASE("close ends what is still under way when its patience is over: not sent or unknown") {
  support::need_redis();
  redis_server server;
  client_options options = client_options::from_url(server.url());
  options.bounds.in_flight = 3;
  options.timeout = 60s;
  client redis{options};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  std::vector<under_way<reply>> calls;
  echo(redis, calls, 10);
  REQUIRE(eventually([&] { return lane_of(redis).in_flight == 3; }));
  redis.close(50ms);
  for (std::size_t i = 0; i < 3; ++i) CHECK(is_closed(failure_of(calls[i]), execution::unknown));
  for (std::size_t i = 3; i < 10; ++i) CHECK(is_closed(failure_of(calls[i]), execution::not_sent));
}

TEST_CASE("close ends a call that waits for a connection") {
  client redis{"redis://127.0.0.1:1"};
  auto waiting = started(redis.with({.timeout = no_timeout}).async_execute("PING"));
  redis.close(50ms);
  CHECK(failure_of(waiting).execution == execution::not_sent);
}

TEST_CASE("a client that is closed by several threads, with calls coming in, ends each call once") {
  support::need_redis();
  const redis_server server;
  for (int round = 0; round < 20; ++round) {
    client redis{server.url()};
    const caller patient = redis.with({.timeout = 60s});
    std::vector<under_way<reply>> calls;
    echo(patient, calls, 50);
    {
      std::vector<std::jthread> closing;
      for (int i = 0; i < 3; ++i) closing.emplace_back([&redis] { redis.close(20s); });
      echo(patient, calls, 200);
    }
    std::size_t own = 0;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const outcome how = outcome_of(calls[i], i);
      CHECK(how != outcome::other);
      if (how == outcome::own) ++own;
    }
    CHECK(own >= 50);
  }
}

TEST_CASE("a coroutine may close its client, on the pool or the I/O thread, and calls under way get their replies") {
  support::need_redis();
  redis_server server;
  client_options options = client_options::from_url(server.url());
  options.timeout = 60s;
  SECTION("on the pool") {}
  SECTION("on the I/O thread") { options.executor = inline_executor(); }
  client redis{options};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  std::vector<under_way<reply>> calls;
  echo(redis, calls, 50);
  auto closer = started(close_after_a_call(redis));
  echo(redis, calls, 50);
  REQUIRE(eventually([&] { return lane_of(redis).in_flight == 101; }));
  server.resume();
  CHECK(result_of(closer));
  for (std::size_t i = 0; i < calls.size(); ++i) CHECK(outcome_of(calls[i], i) == outcome::own);
  CHECK(is_closed(failure_of(redis.async_execute("PING")), execution::not_sent));
}

TEST_CASE("close on the I/O thread ends the blocking calls of other threads when its patience is over") {
  const support::must_end limit;
  support::need_redis();
  redis_server server;
  client_options options = client_options::from_url(server.url());
  options.executor = inline_executor();
  options.timeout = no_timeout;
  client redis{options};
  sync_wait(redis.async_execute("PING"));
  redis.execute("PING");
  exclusive_connection own = redis.exclusive();
  own.execute("PING");
  server.pause();
  auto shared = support::on_thread([&] { return code_of([&] { redis.execute("PING"); }); });
  const caller bulk = redis.with({.lane = lane_choice::bulk});
  auto connecting = support::on_thread([&] { return code_of([&] { bulk.execute("PING"); }); });
  auto exclusive = support::on_thread([&] { return code_of([&] { own.execute("PING"); }); });
  REQUIRE(eventually([&] { return lane_of(redis, "blocking").in_flight == 1; }));
  REQUIRE(eventually([&] { return lane_of(redis, "blocking bulk").queued == 1; }));
  auto closer = started(close_after_a_deadline(redis));
  CHECK(result_of(closer));
  CHECK(shared.get() == errc::closed);
  CHECK(connecting.get() == errc::closed);
  CHECK(exclusive.get() == errc::closed);
}

TEST_CASE("a client may go as soon as its calls have ended") {
  support::need_redis();
  const redis_server server;
  client_options options = client_options::from_url(server.url());
  SECTION("with its own threads") {}
  SECTION("with inline_executor") { options.executor = inline_executor(); }
  for (int i = 0; i < 50; ++i) {
    client redis{options};
    std::vector<under_way<reply>> calls;
    echo(redis, calls, 10);
    for (std::size_t k = 0; k < calls.size(); ++k) CHECK(outcome_of(calls[k], k) == outcome::own);
  }
}

TEST_CASE("a coroutine on the pool may destroy its client") {
  support::need_redis();
  const redis_server server;
  for (int i = 0; i < 50; ++i) {
    auto redis = std::make_unique<client>(server.url());
    CHECK(sync_wait(last_user(std::move(redis))).str() == "PONG");
  }
}

TEST_CASE("a client may go while it tries to connect, or after the server has frozen") {
  support::need_redis();
  redis_server server;
  bool connected = false;
  SECTION("while it tries to connect") {}
  SECTION("after the server has frozen") { connected = true; }
  client_options options = client_options::from_url(server.url());
  options.connect_timeout = 600s;
  {
    client redis{options};
    if (connected) sync_wait(redis.async_execute("PING"));
    server.pause();
    CHECK(failure_of(redis.with({.timeout = 20ms}).async_execute("PING")).code == errc::timeout);
  }
  server.resume();
}
