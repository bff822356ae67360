// Ending calls from outside: stop tokens and close.

#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <latch>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::caught;
using support::failure_of;
using support::peer;
using support::scripted_server;

/// Reads commands and never answers; counts them.
struct silent_server {
  std::atomic<int> commands{0};
  scripted_server server{[this](peer& client, int) {
    if (!client.greet()) return;
    while (!client.command().empty()) ++commands;
  }};

  void wait_for(int count) {
    REQUIRE(support::eventually([&] { return commands >= count; }));
  }
};

}  // namespace

TEST_CASE("a stop token ends a call that waits for its reply, at once") {
  silent_server silent;
  client redis{silent.server.url() + "?timeout=10min"};
  std::stop_source stop;
  std::jthread stopper{[&] {
    silent.wait_for(1);
    stop.request_stop();
  }};
  auto cancellable = redis.with({.stop = stop.get_token()});
  const auto fault = failure_of([&] { cancellable.execute("GET", "k"); });
  CHECK(fault.code == errc::cancelled);
  CHECK(fault.execution == execution::unknown);
}

TEST_CASE("a stop token ends a call while another thread reads for it, and the other goes on") {
  silent_server silent;
  client redis{silent.server.url() + "?timeout=10min"};
  std::optional<caught> reader;
  std::jthread reads{[&] { reader = failure_of([&] { redis.execute("GET", "first"); }); }};
  silent.wait_for(1);
  std::stop_source stop;
  std::jthread stopper{[&] {
    silent.wait_for(2);
    stop.request_stop();
  }};
  auto cancellable = redis.with({.stop = stop.get_token()});
  CHECK(failure_of([&] { cancellable.execute("GET", "second"); }).code == errc::cancelled);
  CHECK_FALSE(reader.has_value());
  redis.close(0ms);
  reads.join();
  CHECK(reader->code == errc::closed);
}

TEST_CASE("a stop token ends a call that waits for a connection, with nothing sent") {
  std::latch accepted{1};
  scripted_server server{[&](peer& client, int) {
    accepted.count_down();
    client.wait_for_end();
  }};
  client_options options = client_options::from_url(server.url());
  options.timeout = options.connect_timeout = no_timeout;
  client redis{options};
  std::stop_source stop;
  std::jthread stopper{[&] {
    accepted.wait();
    stop.request_stop();
  }};
  auto cancellable = redis.with({.stop = stop.get_token()});
  const auto fault = failure_of([&] { cancellable.execute("PING"); });
  CHECK(fault.code == errc::cancelled);
  CHECK(fault.execution == execution::not_sent);
}

TEST_CASE("a call whose token was triggered before sends nothing") {
  silent_server silent;
  client redis{silent.server.url()};
  std::stop_source stop;
  stop.request_stop();
  auto cancellable = redis.with({.stop = stop.get_token()});
  const auto fault = failure_of([&] { cancellable.execute("GET", "k"); });
  CHECK(fault.code == errc::cancelled);
  CHECK(fault.execution == execution::not_sent);
  CHECK(silent.server.connections() == 0);
}

TEST_CASE("a thread that has cancelled a call can make the next one") {
  std::atomic<bool> answer = false;
  scripted_server server{[&](peer& client, int) {
    if (!client.greet()) return;
    client.command();
    answer.wait(false);
    client.send("+LATE\r\n");
    while (!client.command().empty() && client.send("+PONG\r\n")) {
    }
  }};
  client redis{server.url() + "?timeout=10min"};
  std::stop_source stop;
  std::jthread stopper{[&] { stop.request_stop(); }};
  CHECK(failure_of([&] { redis.with({.stop = stop.get_token()}).execute("PING"); }).code == errc::cancelled);
  answer = true;
  answer.notify_all();
  std::stop_source unused;
  auto again = redis.with({.stop = unused.get_token()});
  // The cancelled command was sent, or was not: only in the first case is its reply dropped.
  const std::string reply = again.execute("PING").str();
  CHECK((reply == "PONG" || reply == "LATE"));
}

TEST_CASE("a command that a late writer left half written is written to its end by a thread that only reads") {
  std::latch first_read{1};
  std::latch writer_left{1};
  scripted_server server{[&](peer& client, int) {
    if (!client.greet() || client.command() != "GET first") return;
    first_read.count_down();
    writer_left.wait();  // meanwhile nobody takes bytes from the socket
    if (client.command().starts_with("SET large ")) client.send("+FIRST\r\n+OK\r\n");
    client.wait_for_end();
  }};
  client redis{server.url() + "?timeout=10min"};
  const auto bulk = redis.with({.lane = lane_choice::bulk});  // which the large command takes
  std::string reply;
  std::jthread reads{[&] { reply = bulk.execute("GET", "first").str(); }};
  first_read.wait();
  const std::string large(64U << 20U, 'x');  // more than the sockets of both sides hold
  const auto fault = failure_of([&] { redis.with({.timeout = 200ms}).execute("SET", "large", large); });
  CHECK(fault.code == errc::timeout);
  CHECK(fault.execution == execution::unknown);
  writer_left.count_down();
  reads.join();
  CHECK(reply == "FIRST");
}

TEST_CASE("close ends calls under way: unknown where the command was written, not sent where it was not") {
  silent_server silent;
  client redis{silent.server.url() + "?timeout=10min"};
  std::vector<caught> faults(16);
  {
    std::vector<std::jthread> threads;
    for (caught& each : faults) threads.emplace_back([&] { each = failure_of([&] { redis.execute("GET", "k"); }); });
    silent.wait_for(16);
    std::jthread twice{[&] { redis.close(0ms); }};
    redis.close(0ms);
  }
  for (const caught& each : faults) {
    CHECK(each.code == errc::closed);
    CHECK(each.execution == execution::unknown);
  }
  const auto later = failure_of([&] { redis.execute("GET", "k"); });
  CHECK(later.code == errc::closed);
  CHECK(later.execution == execution::not_sent);
}

TEST_CASE("close ends a call that waits for a connection") {
  std::latch accepted{1};
  scripted_server server{[&](peer& client, int) {
    accepted.count_down();
    client.wait_for_end();
  }};
  client_options options = client_options::from_url(server.url());
  options.timeout = options.connect_timeout = no_timeout;
  client redis{options};
  std::optional<caught> fault;
  std::jthread waits{[&] { fault = failure_of([&] { redis.execute("PING"); }); }};
  accepted.wait();
  redis.close(0ms);
  waits.join();
  CHECK(fault->code == errc::closed);
  CHECK(fault->execution == execution::not_sent);
}

TEST_CASE("close waits for calls that end within the time it was given") {
  std::latch asked{1};
  std::atomic<bool> closing = false;
  scripted_server server{[&](peer& client, int) {
    if (!client.greet()) return;
    client.command();
    asked.count_down();
    closing.wait(false);
    client.send("+DONE\r\n");
    client.wait_for_end();
  }};
  client redis{server.url() + "?timeout=10min"};
  std::string reply;
  std::jthread waits{[&] { reply = redis.execute("GET", "k").str(); }};
  asked.wait();
  std::jthread answers{[&] {
    REQUIRE(support::eventually([&] {  // refused as soon as close has begun
      try {
        redis.with({.timeout = 1ms}).execute("PING");
      } catch (const error& refusal) {
        return refusal.code() == errc::closed;
      }
      return false;
    }));
    closing = true;
    closing.notify_all();
  }};
  redis.close(1min);
  waits.join();
  CHECK(reply == "DONE");
}

TEST_CASE("destroying a client that was never used, and one whose server is gone, does nothing") {
  { const client unused{"redis://127.0.0.1:1"}; }
  client refused{"redis://127.0.0.1:1"};
  CHECK(failure_of([&] { refused.execute("PING"); }).code == errc::unreachable);
}
