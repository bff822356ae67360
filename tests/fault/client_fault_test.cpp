// What a client does with a server that misbehaves.

#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <latch>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::failure_of;
using support::peer;
using support::scripted_server;

/// Answers every command with +PONG.
void serve(peer& client) {
  while (!client.command().empty() && client.send("+PONG\r\n")) {
  }
}

/// The first connection plays `script` after the handshake; later ones work.
template <class Script>
scripted_server broken_once(Script script) {
  return scripted_server{[script](peer& client, int number) {
    if (!client.greet()) return;
    if (number == 0)
      script(client);
    else
      serve(client);
  }};
}

void works_again(client& redis) { CHECK(redis.execute("PING").str() == "PONG"); }

}  // namespace

TEST_CASE("a server that sends garbage is a protocol error, and the next command has a new connection") {
  scripted_server server = broken_once([](peer& client) {
    client.command();
    client.send("HTTP/1.1 400 Bad Request\r\n");
    client.wait_for_end();
  });
  client redis{server.url()};
  const auto fault = failure_of([&] { redis.execute("GET", "k"); });
  CHECK(fault.code == errc::protocol);
  CHECK(fault.execution == execution::unknown);
  CHECK(fault.text.find("speaks HTTP") != std::string::npos);
  CHECK(fault.text.find(server.url()) != std::string::npos);
  works_again(redis);
  CHECK(server.connections() == 2);
}

TEST_CASE("a server that closes in the middle of a reply leaves the command unknown") {
  scripted_server server = broken_once([](peer& client) {
    client.command();
    client.send("$100\r\nonly so much");
  });
  client redis{server.url()};
  const auto fault = failure_of([&] { redis.execute("SET", "k", "v"); });
  CHECK(fault.code == errc::connection_lost);
  CHECK(fault.execution == execution::unknown);
  works_again(redis);
}

TEST_CASE("a connection that is reset leaves the command unknown") {
  scripted_server server = broken_once([](peer& client) {
    client.command();
    client.reset();
  });
  client redis{server.url()};
  CHECK(failure_of([&] { redis.execute("SET", "k", "v"); }).code == errc::connection_lost);
  works_again(redis);
}

TEST_CASE("a reply that nobody asked for closes the connection") {
  scripted_server server = broken_once([](peer& client) {
    client.command();
    client.send("+PONG\r\n+SURPRISE\r\n");
    client.wait_for_end();
  });
  client redis{server.url()};
  try {
    CHECK(redis.execute("PING").str() == "PONG");  // both arrived at once, or one after the other
  } catch (const connection_error& fault) {
    CHECK(fault.code() == errc::protocol);
  }
  CHECK(support::eventually([&] {
    try {
      return redis.execute("PING").str() == "PONG" && server.connections() == 2;
    } catch (const connection_error&) {
      return false;
    }
  }));
}

TEST_CASE("a reply over the limit is refused at its header") {
  scripted_server server = broken_once([](peer& client) {
    client.command();
    client.send("$1000000000\r\n");
    client.wait_for_end();
  });
  client_options options = client_options::from_url(server.url());
  options.limits.bytes = 1U << 20U;
  client redis{options};
  const auto fault = failure_of([&] { redis.execute("GET", "k"); });
  CHECK(fault.code == errc::protocol);
  CHECK(fault.text.find("1000000000") != std::string::npos);
  works_again(redis);
}

TEST_CASE("a deadline holds while the server says nothing, and the late reply reaches nobody") {
  std::latch silent_over{1};
  scripted_server server{[&](peer& client, int) {
    if (!client.greet()) return;
    client.command();
    silent_over.wait();
    client.send("+LATE\r\n");
    while (!client.command().empty() && client.send("+MINE\r\n")) {
    }
  }};
  client redis{server.url()};
  const auto begin = std::chrono::steady_clock::now();
  const auto fault = failure_of([&] { redis.with({.timeout = 50ms}).execute("GET", "k"); });
  const auto took = std::chrono::steady_clock::now() - begin;
  CHECK(fault.code == errc::timeout);
  CHECK(fault.execution == execution::unknown);
  CHECK(took >= 50ms);
  CHECK(took < 10 * 50ms);
  silent_over.count_down();
  CHECK(redis.with({.timeout = 10s}).execute("GET", "k").str() == "MINE");
  CHECK(server.connections() == 1);
}

TEST_CASE("a server that accepts and says nothing cannot outlast the deadline of the call") {
  scripted_server server{[](peer& client, int) { client.wait_for_end(); }};
  client redis{server.url()};
  const auto fault = failure_of([&] { redis.with({.timeout = 50ms}).execute("PING"); });
  CHECK(fault.code == errc::timeout);
  CHECK(fault.execution == execution::not_sent);
}

TEST_CASE("an attempt to connect ends with its own time-out where the call has more time") {
  scripted_server server{[](peer& client, int) { client.wait_for_end(); }};
  client_options options = client_options::from_url(server.url());
  options.timeout = no_timeout;
  options.connect_timeout = 50ms;
  options.down = when_down::fail;
  client redis{options};
  const auto fault = failure_of([&] { redis.execute("PING"); });
  CHECK(fault.code == errc::unreachable);
  CHECK(fault.execution == execution::not_sent);
  CHECK(fault.text.find("50 ms") != std::string::npos);
}

TEST_CASE("attempts that end with their callers' deadlines add up to one that failed") {
  scripted_server server{[](peer& client, int) { client.wait_for_end(); }};
  client_options options = client_options::from_url(server.url());
  options.connect_timeout = 60ms;
  options.down = when_down::fail;
  client redis{options};
  const caller hurried = redis.with({.timeout = 25ms});
  errc last = errc::timeout;
  for (int i = 0; i < 5 && last == errc::timeout; ++i) last = failure_of([&] { hurried.execute("PING"); }).code;
  CHECK(last == errc::unreachable);
  CHECK(redis.metrics().lanes.at(0).connect_failures == 1);
}

TEST_CASE("a host that answers no packets cannot outlast the deadline") {
  // A listener whose backlog is full drops what comes: the connection attempt hangs, as with a host that is gone.
  tenantry::net::descriptor listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in name = support::loopback(0);
  socklen_t size = sizeof name;
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  REQUIRE(::listen(listener.get(), 0) == 0);
  REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
  std::vector<tenantry::net::descriptor> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    (void)::connect(fillers.back().get(), reinterpret_cast<sockaddr*>(&name), sizeof name);
  }
  client redis{"redis://127.0.0.1:" + std::to_string(ntohs(name.sin_port))};
  const auto fault = failure_of([&] { redis.with({.timeout = 50ms}).execute("PING"); });
  CHECK(fault.code == errc::timeout);
  CHECK(fault.execution == execution::not_sent);
}

TEST_CASE("a server that is full is unreachable, in its own words") {
  scripted_server server{[](peer& client, int) { client.send("-ERR max number of clients reached\r\n"); }};
  client redis{server.url()};
  const auto fault = failure_of([&] { redis.execute("PING"); });
  CHECK(fault.code == errc::unreachable);
  CHECK(fault.execution == execution::not_sent);
  CHECK(fault.text.find("max number of clients") != std::string::npos);
}

TEST_CASE("a server that closes during the handshake is unreachable") {
  scripted_server server{[](peer& client, int) { client.command(); }};
  client redis{server.url()};
  CHECK(failure_of([&] { redis.execute("PING"); }).code == errc::unreachable);
}

TEST_CASE("a connection that the server closed while it was idle costs no command") {
  std::latch closed{1};
  scripted_server server{[&](peer& client, int number) {
    if (!client.greet()) return;
    if (number > 0) return serve(client);
    client.command();
    client.send("+PONG\r\n");
    closed.count_down();
  }};
  client redis{server.url()};
  CHECK(redis.execute("PING").str() == "PONG");
  closed.wait();
  std::this_thread::sleep_for(150ms);  // the time after which a connection counts as idle
  CHECK(redis.execute("PING").str() == "PONG");
  CHECK(server.connections() == 2);
}

TEST_CASE("execute_all sends every command before it waits for a reply") {
  scripted_server server{[](peer& client, int) {
    if (!client.greet()) return;
    const bool all = client.command() == "INCR a" && client.command() == "INCR b" && client.command() == "INCR c";
    client.send(all ? ":1\r\n-ERR no\r\n:3\r\n" : "-ERR wrong order\r\n");
    client.wait_for_end();
  }};
  client redis{server.url()};
  const auto replies = redis.execute_all({command{"INCR", "a"}, command{"INCR", "b"}, command{"INCR", "c"}});
  CHECK(replies.at(0).integer() == 1);
  CHECK(replies.at(1).error_text() == "ERR no");
  CHECK(replies.at(2).integer() == 3);
}

TEST_CASE("the handshake is one write, before any command") {
  std::string seen;
  std::latch read{1};
  scripted_server server{[&](peer& client, int) {
    for (int i = 0; i < 4; ++i) seen += client.command() + "\n";
    client.send("*0\r\n+OK\r\n-ERR unknown subcommand\r\n+OK\r\n");
    serve(client);
    read.count_down();
  }};
  {
    client redis{"redis://bob:pw@" + server.url().substr(8) + "/3?client_name=app"};
    CHECK(redis.execute("PING").str() == "PONG");
  }
  read.wait();
  CHECK(seen ==
        "HELLO 2 AUTH bob pw SETNAME app\nCLIENT SETINFO LIB-NAME tenantry\nCLIENT SETINFO LIB-VER 0.1.0\nSELECT 3\n");
}
