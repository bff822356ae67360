// Coroutines whose server answers what no Redis would.

#include "support/async_calls.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::caught;
using support::eventually;
using support::failure_of;
using support::peer;
using support::result_of;
using support::scripted_server;
using support::started;
using support::under_way;

bool is(const caught& how, errc code, execution what) { return how.code == code && how.execution == what; }

/// Answers each ECHO with its argument.
void echo(peer& client) {
  for (std::string asked = client.command(); !asked.empty(); asked = client.command()) {
    const std::string text = asked.substr(asked.find(' ') + 1);
    client.send("$" + std::to_string(text.size()) + "\r\n" + text + "\r\n");
  }
}

}  // namespace

TEST_CASE("bytes that are no reply end the connection: unknown for its calls, and the next one serves") {
  for (const std::string_view garbage : {"this is no reply\r\n", "$-7\r\n", "*1\r\n!x\r\n", ":12x\r\n"}) {
    const scripted_server server{[garbage](peer& client, int number) {
      if (!client.greet()) return;
      if (number > 0) return echo(client);
      client.command();
      client.send(garbage);
      client.wait_for_end();
    }};
    client redis{server.url()};
    const caller patient = redis.with({.timeout = 30s});
    CAPTURE(garbage);
    auto first = started(patient.async_execute("INCR", "n"));
    CHECK(is(failure_of(first), errc::protocol, execution::unknown));
    CHECK(sync_wait(patient.async_execute("ECHO", "own")).str() == "own");
    CHECK(server.connections() == 2);
  }
}

TEST_CASE("a reply that nobody asked for ends the connection, and no coroutine gets it") {
  const scripted_server server{[](peer& client, int number) {
    if (!client.greet()) return;
    if (number > 0) return echo(client);
    client.command();
    client.send("+OK\r\n+INJECTED\r\n");
    client.wait_for_end();
  }};
  client redis{server.url()};
  const caller patient = redis.with({.timeout = 30s});
  CHECK(sync_wait(patient.async_execute("SET", "k", "v")).str() == "OK");
  for (int i = 0; i < 10; ++i) CHECK(sync_wait(patient.async_execute("ECHO", i)).str() == std::to_string(i));
  CHECK(server.connections() == 2);
}

TEST_CASE("a reply over the limits fails its call as protocol, and the next connection serves") {
  const scripted_server server{[](peer& client, int number) {
    if (!client.greet()) return;
    if (number > 0) return echo(client);
    client.command();
    client.send("$1000000\r\n");
    client.wait_for_end();
  }};
  client_options options = client_options::from_url(server.url());
  options.limits.bytes = 5000;
  options.timeout = 30s;
  client redis{options};
  CHECK(is(failure_of(redis.async_execute("INCR", "n")), errc::protocol, execution::unknown));
  CHECK(sync_wait(redis.async_execute("ECHO", "own")).str() == "own");
}

TEST_CASE("a connection that ends inside a reply leaves its calls unknown, and the replies before it count") {
  const scripted_server server{[](peer& client, int number) {
    if (!client.greet()) return;
    if (number > 0) return echo(client);
    for (int i = 0; i < 3; ++i) client.command();
    client.send(":1\r\n$10\r\nhalf");
  }};
  client redis{server.url()};
  const caller patient = redis.with({.timeout = 30s});
  std::vector<under_way<reply>> calls;
  for (int i = 0; i < 3; ++i) calls.push_back(started(patient.async_execute("INCR", "n")));
  CHECK(result_of(calls[0]).integer() == 1);
  CHECK(is(failure_of(calls[1]), errc::connection_lost, execution::unknown));
  CHECK(is(failure_of(calls[2]), errc::connection_lost, execution::unknown));
  CHECK(sync_wait(patient.async_execute("ECHO", "own")).str() == "own");
}

TEST_CASE("a command that the server rejected for now is sent again, until it runs or its caller gives up") {
  std::atomic<int> asked = 0;
  const scripted_server server{[&asked](peer& client, int) {
    if (!client.greet()) return;
    while (!client.command().empty()) client.send(++asked == 3 ? "+OK\r\n" : "-LOADING Redis is loading\r\n");
  }};
  client redis{server.url()};
  CHECK(sync_wait(redis.with({.timeout = 30s}).async_execute("SET", "k", "v")).str() == "OK");
  CHECK(asked == 3);

  SECTION("by its deadline") {
    const caught how = failure_of(redis.with({.timeout = 200ms}).async_execute("SET", "k", "v"));
    CHECK(how.execution == execution::rejected);
    CHECK(how.code == errc::not_ready);
  }
  SECTION("by its stop_token") {
    std::stop_source source;
    auto call = started(redis.with({.timeout = 600s, .stop = source.get_token()}).async_execute("SET", "k", "v"));
    REQUIRE(eventually([&] { return asked > 8; }));  // the pauses are long enough by now to be met by the stop
    source.request_stop();
    CHECK(failure_of(call).code == errc::cancelled);
  }
  SECTION("beforehand") {
    const caller once = redis.with({.timeout = 30s, .retry = retry::never});
    CHECK(is(failure_of(once.async_execute("SET", "k", "v")), errc::not_ready, execution::rejected));
    CHECK(asked == 4);
  }
}
