// What the observer of a client is told, and what the breaker learns from its calls.

#include "engine/seam.hpp"
#include "support/errors.hpp"
#include "support/listener.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::failure_of;
using support::listener;
using tenantry::testing::redis_server;

namespace {

client_options watched(const redis_server& server, listener& by) {
  auto options = client_options::from_url(server.url());
  options.observer = by.ear();
  return options;
}

}  // namespace

TEST_CASE("the observer is told of a connection, its end, and of the attempts that failed") {
  support::need_redis();
  redis_server server;
  listener heard;
  client redis{watched(server, heard)};
  redis.execute("PING");
  REQUIRE(heard.all(events::connected).size() == 1);
  CHECK(heard.all(events::connected)[0].text.at("lane") == "blocking");
  CHECK(heard.all(events::connected)[0].text.at("endpoint") == server.url());

  server.kill();
  CHECK(failure_of([&] { redis.with({.timeout = 200ms, .retry = retry::never}).execute("SET", "k", 1); }).code !=
        errc::timeout);
  CHECK(heard.all(events::connection_lost).size() == 1);
  CHECK(failure_of([&] { redis.with({.timeout = 200ms}).execute("PING"); }).code == errc::unreachable);
  REQUIRE_FALSE(heard.all(events::connect_failed).empty());
  CHECK(heard.all(events::connect_failed)[0].text.at("code") == "unreachable");
  CHECK(heard.all(events::connect_failed)[0].text.at("detail") == "Connection refused");
  CHECK(heard.all(events::connect_failed)[0].number.at("retry_ms") <= 20);
}

TEST_CASE("the observer is told of a connection's end with the number of calls that it cost") {
  support::need_redis();
  redis_server server;
  listener heard;
  client redis{watched(server, heard)};
  support::caught cost;
  std::thread caller{[&] {
    const auto no_retry = redis.with({.timeout = 20s, .retry = retry::never});
    cost = failure_of([&] { no_retry.execute("EVAL", "while true do end", 0); });
  }};
  CHECK(eventually([&] { return redis.metrics().lanes.front().in_flight == 1; }));
  server.kill();
  caller.join();
  CHECK(cost.code == errc::connection_lost);
  CHECK(cost.execution == execution::unknown);
  REQUIRE(heard.all(events::connection_lost).size() == 1);
  CHECK(heard.all(events::connection_lost)[0].number.at("unanswered") == 1);
}

TEST_CASE("the observer is told of a stalled lane, and the lane is left") {
  support::need_redis();
  redis_server server;
  listener heard;
  auto options = watched(server, heard);
  options.timeout = 100ms;
  options.stall_limit = 300ms;
  client redis{options};
  redis.execute("PING");
  server.pause();
  CHECK(failure_of([&] { redis.execute("INCR", "n"); }).code == errc::timeout);
  CHECK(failure_of([&] { redis.with({.timeout = 5s}).execute("INCR", "n"); }).execution != execution::rejected);
  CHECK(heard.all(events::connection_lost).size() == 1);
  server.resume();
  CHECK(eventually([&] {
    try {
      return redis.execute("PING").str() == "PONG";
    } catch (const error&) {
      return false;
    }
  }));
}

TEST_CASE("an observer that throws changes no call") {
  support::need_redis();
  const redis_server server;
  auto options = client_options::from_url(server.url());
  options.observer = [](const event&) { throw std::runtime_error{"a log that is full"}; };
  client redis{options};
  CHECK(redis.execute("PING").str() == "PONG");
}

TEST_CASE("the breaker opens when calls fail in a row, says so once, and closes when a probe succeeds") {
  support::need_redis();
  redis_server server;
  listener heard;
  client redis{watched(server, heard)};
  redis.execute("PING");
  CHECK(redis.metrics().breaker == "closed");
  server.kill();
  const auto impatient = redis.with({.timeout = 20ms, .retry = retry::never});
  for (int i = 0; i < 8; ++i) (void)failure_of([&] { impatient.execute("PING"); });
  CHECK(redis.metrics().breaker == "open");
  CHECK(redis.metrics().breaker_openings == 1);
  CHECK(heard.all(events::breaker_opened).size() == 1);

  auto& breaker = detail::seam::circuit_breaker(redis);
  server.start();
  CHECK(eventually([&] {
    if (!breaker.allow(std::chrono::steady_clock::now())) return false;
    try {
      redis.execute("PING");
      return true;
    } catch (const error&) {
      return false;
    }
  }));
  CHECK(redis.metrics().breaker == "closed");
  CHECK(heard.all(events::breaker_closed).size() == 1);
}

TEST_CASE("error replies are answers: they open no breaker") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  redis.execute("SET", "text", "x");
  for (int i = 0; i < 50; ++i) CHECK(failure_of([&] { redis.execute("LPUSH", "text", 1); }).code == errc::wrong_type);
  CHECK(redis.metrics().breaker == "closed");
}
