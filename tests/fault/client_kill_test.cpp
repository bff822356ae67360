// A client against a real server that is killed, stopped and restarted.

#include "support/errors.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::failure_of;
using testing::redis_server;

}  // namespace

TEST_CASE("a client works again when its server is back") {
  support::need_redis();
  redis_server server;
  client redis{server.url()};
  CHECK(redis.execute("PING").str() == "PONG");
  server.kill();
  const auto lost = failure_of([&] { redis.execute("PING"); });
  CHECK((lost.code == errc::connection_lost || lost.code == errc::unreachable));
  CHECK(failure_of([&] { redis.execute("PING"); }).code == errc::unreachable);
  server.start();
  CHECK(redis.with({.timeout = 20s}).execute("PING").str() == "PONG");
}

TEST_CASE("a stopped server costs each call its own deadline, and nobody gets another's reply afterwards") {
  support::need_redis();
  redis_server server;
  client redis{server.url()};
  redis.execute("PING");
  server.pause();
  for (int i = 0; i < 20; ++i) {
    const auto fault = failure_of([&] { redis.with({.timeout = 5ms}).execute("ECHO", "late" + std::to_string(i)); });
    CHECK(fault.code == errc::timeout);
    CHECK(fault.execution == execution::unknown);
  }
  server.resume();
  for (int i = 0; i < 20; ++i) {
    const std::string own = "mine" + std::to_string(i);
    CHECK(redis.with({.timeout = 20s}).execute("ECHO", own).str() == own);
  }
}

TEST_CASE("with random deadlines in many threads no command gets another's reply") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  support::random_bytes random;
  std::atomic<int> wrong = 0;
  std::atomic<int> answered = 0;
  std::atomic<int> late = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 16; ++t) {
      threads.emplace_back([&, t, seed = random.below(1U << 30U)] {
        std::mt19937_64 own_random{seed};  // not support::random_bytes: Catch2's messages belong to one thread
        for (int i = 0; i < 400; ++i) {
          const std::string own = std::to_string(t) + "/" + std::to_string(i);
          auto hurried = redis.with({.timeout = std::chrono::milliseconds{1 + own_random() % 3}});
          try {
            if (hurried.execute("ECHO", own).str() != own) ++wrong;
            ++answered;
          } catch (const timeout_error&) {
            ++late;
          }
        }
      });
    }
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        // Holds the server up, so that deadlines pass while commands are in every stage of their way.
        try {
          redis.with({.timeout = 20s}).execute("EVAL", "local n = 0 for i = 1, 300000 do n = n + i end return n", 0);
        } catch (const error&) {
          ++wrong;
        }
      }
    });
  }
  CHECK(wrong == 0);
  CHECK(answered + late == 16 * 400);
  CHECK(late > 0);
  CHECK(redis.with({.timeout = 20s}).execute("ECHO", "last").str() == "last");
}

TEST_CASE("through kills of its connection, what a client says of each INCR is true") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  auto patient = client_options::from_url(server.unix_url());
  patient.timeout = 20s;
  client killer{patient};
  std::atomic<int> acknowledged = 0;
  std::atomic<int> unknown = 0;
  std::atomic<int> not_sent = 0;
  std::atomic<int> other = 0;
  std::atomic<int> running = 8;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) {
          try {
            redis.with({.timeout = 20s}).execute("INCR", "n");
            ++acknowledged;
          } catch (const error& fault) {
            if (fault.execution() == execution::unknown)
              ++unknown;
            else if (fault.execution() == execution::not_sent)
              ++not_sent;
            else
              ++other;
          }
        }
        --running;
      });
    }
    while (running > 0) {
      killer.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      std::this_thread::sleep_for(2ms);  // paces the kills, nothing waits for it
    }
  }
  const int total = std::stoi(killer.execute("GET", "n").str());
  CAPTURE(acknowledged.load(), unknown.load(), not_sent.load(), total);
  CHECK(acknowledged + unknown + not_sent == 8000);
  CHECK(other == 0);
  CHECK(unknown > 0);
  CHECK(total >= acknowledged);
  CHECK(total <= acknowledged + unknown);
}
