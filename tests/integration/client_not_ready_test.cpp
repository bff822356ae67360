// A server that refuses a client for now: it loads, is full, or has another password.

#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::eventually;
using support::failure_of;
using support::peer;
using support::scripted_server;
using support::undeterred;
using testing::redis_server;

/// Answers each command as told the first times, then with +OK.
struct reluctant_server {
  explicit reluctant_server(std::string refusal, int times)
      : server{[this, refusal = std::move(refusal), times](peer& client, int) {
          if (!client.greet()) return;
          while (!client.command().empty()) {
            if (!client.send(asked++ < times ? refusal : "+OK\r\n")) return;
          }
        }} {}

  std::atomic<int> asked = 0;
  scripted_server server;
};

}  // namespace

TEST_CASE("a write that the server rejects while it loads is sent again within its deadline") {
  for (const char* refusal :
       {"-LOADING Redis is loading the dataset in memory\r\n", "-TRYAGAIN Multiple keys request during rehashing\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n", "-CLUSTERDOWN The cluster is down\r\n"}) {
    reluctant_server loading{refusal, 3};
    client redis{undeterred(loading.server.url() + "?timeout=20s")};
    CHECK(redis.execute("INCR", "n").str() == "OK");
    CHECK(loading.asked == 4);
    CHECK(loading.server.connections() == 1);
  }
}

TEST_CASE("a server that loads for longer than the deadline is not_ready, and rejected the command") {
  reluctant_server loading{"-LOADING Redis is loading the dataset in memory\r\n", 1'000'000};
  client redis{undeterred(loading.server.url())};
  const auto begin = std::chrono::steady_clock::now();
  const auto fault = failure_of([&] { redis.with({.timeout = 200ms}).execute("INCR", "n"); });
  CHECK(std::chrono::steady_clock::now() - begin < 10 * 200ms);
  CHECK(fault.code == errc::not_ready);
  CHECK(fault.execution == execution::rejected);
  CHECK(loading.asked > 1);
}

TEST_CASE("the wait between two tries ends with a stop token") {
  const support::must_end limit;
  reluctant_server loading{"-LOADING Redis is loading the dataset in memory\r\n", 1'000'000};
  client redis{undeterred(loading.server.url() + "?timeout=10min")};
  std::stop_source stop;
  auto waits = support::on_thread([&] {
    const auto stoppable = redis.with({.stop = stop.get_token()});
    return failure_of([&] { stoppable.execute("INCR", "n"); });
  });
  REQUIRE(eventually([&] { return loading.asked >= 3; }));
  stop.request_stop();
  const auto fault = waits.get();
  CHECK(fault.code == errc::cancelled);
  // It was cancelled between two tries, or after the next one was written.
  CHECK((fault.execution == execution::rejected || fault.execution == execution::unknown));
}

TEST_CASE("close ends the wait between two tries") {
  const support::must_end limit;
  reluctant_server loading{"-LOADING Redis is loading the dataset in memory\r\n", 1'000'000};
  client redis{undeterred(loading.server.url() + "?timeout=10min")};
  auto waits = support::on_thread([&] { return failure_of([&] { redis.execute("INCR", "n"); }); });
  REQUIRE(eventually([&] { return loading.asked >= 3; }));
  redis.close(10ms);
  const auto fault = waits.get();
  CHECK((fault.code == errc::closed || fault.code == errc::not_ready));
}

TEST_CASE("an error that is no reason to try again is told at once") {
  for (const char* refusal : {"-OOM command not allowed\r\n", "-NOPERM no\r\n", "-BUSY Redis is busy\r\n",
                              "-MISCONF errors writing\r\n", "-NOREPLICAS not enough\r\n", "-ERR no\r\n"}) {
    reluctant_server strict{refusal, 1'000'000};
    client redis{undeterred(strict.server.url())};
    CHECK_THROWS_AS(redis.execute("SET", "k", 1), server_error);
    CHECK(strict.asked == 1);
  }
}

TEST_CASE("rejections among several commands are values, and nothing is sent again") {
  reluctant_server loading{"-LOADING Redis is loading the dataset in memory\r\n", 1};
  client redis{undeterred(loading.server.url())};
  const auto replies = redis.execute_all({command{"INCR", "a"}, command{"INCR", "b"}});
  CHECK(replies.at(0).is_error());
  CHECK(replies.at(1).str() == "OK");
  CHECK(loading.asked == 2);
}

TEST_CASE("a call waits for a real server that loads its data, within its deadline") {
  support::need_redis();
  redis_server server{{.arguments = {"--enable-debug-command", "local"}}};
  client redis{undeterred(server.url() + "?timeout=30s")};
  redis.execute("EVAL", "for i = 1, 2000 do redis.call('SET', 'k' .. i, i) end", 0);
  redis.execute("CONFIG", "SET", "loading-process-events-interval-bytes", 1024);
  redis.execute("SAVE");
  redis.execute("CONFIG", "SET", "key-load-delay", 500);  // microseconds for each key
  auto reloads = support::on_thread([&] {
    client admin{undeterred(server.unix_url() + "?timeout=30s")};
    return admin.execute("DEBUG", "RELOAD", "NOSAVE").str();
  });
  REQUIRE(eventually([&] { return support::ask(server, "GET k1").starts_with("-LOADING"); }));
  CHECK(redis.execute("GET", "k2000").str() == "2000");
  CHECK(redis.execute("INCR", "k2000").integer() == 2001);
  CHECK(reloads.get() == "OK");
}

TEST_CASE("a server that is full is waited for, until a slot is free") {
  support::need_redis();
  const redis_server server;
  client admin{undeterred(server.unix_url() + "?timeout=20s")};
  admin.execute("CONFIG", "SET", "maxclients", 2);
  auto occupier = std::make_unique<client>(undeterred(server.url() + "?timeout=20s"));
  occupier->execute("PING");

  client redis{undeterred(server.url() + "?timeout=20s")};
  const auto full = failure_of([&] { redis.with({.timeout = 100ms}).execute("INCR", "n"); });
  CHECK(full.code == errc::unreachable);
  CHECK(full.execution == execution::not_sent);
  CHECK(full.text.find("max number of clients") != std::string::npos);
  auto waits = support::on_thread([&] { return redis.execute("INCR", "n").integer(); });
  REQUIRE(eventually([&] { return redis.metrics().lanes.at(0).queued == 1; }));
  occupier.reset();
  CHECK(waits.get() == 1);
}

TEST_CASE("each attempt to connect asks for the credentials of the day") {
  support::need_redis();
  const redis_server server{{.arguments = {"--requirepass", "monday"}}};
  client_options options = undeterred(server.url() + "?timeout=20s");
  std::mutex mutex;
  std::string password = "monday";
  int asked = 0;
  options.password = "never used";
  options.provide_credentials = [&] {
    const std::lock_guard lock{mutex};
    ++asked;
    return credentials{.password = password};
  };
  client redis{options};
  redis.execute("SET", "k", 1);
  CHECK(asked == 1);
  redis.execute("GET", "k");
  CHECK(asked == 1);
  redis.execute("CONFIG", "SET", "requirepass", "tuesday");
  {
    const std::lock_guard lock{mutex};
    password = "tuesday";
  }
  client admin{undeterred("redis://:tuesday@" + server.url().substr(8))};
  admin.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  CHECK(redis.execute("GET", "k").str() == "1");
  CHECK(asked == 2);
}

TEST_CASE("credentials that cannot be had fail the attempt, and the next one asks again") {
  support::need_redis();
  const redis_server server;
  client_options options = undeterred(server.url());
  std::atomic<int> asked = 0;
  options.provide_credentials = [&]() -> credentials {
    if (asked++ == 0) throw std::runtime_error{"the vault is closed"};
    return {};
  };
  options.down = when_down::fail;
  client redis{options};
  const auto fault = failure_of([&] { redis.execute("PING"); });
  CHECK(fault.code == errc::unreachable);
  CHECK(fault.execution == execution::not_sent);
  CHECK(fault.text.find("the vault is closed") != std::string::npos);
  CHECK(redis.with({.timeout = 20s, .down = when_down::wait}).execute("PING").str() == "PONG");
  CHECK(asked == 2);
}

TEST_CASE("a wrong password fails calls at once also where they would wait, and is not tried again and again") {
  support::need_redis();
  const redis_server server{{.arguments = {"--requirepass", "secret"}}};
  client_options options = undeterred(server.url() + "?timeout=20s");
  std::atomic<int> asked = 0;
  options.provide_credentials = [&] {
    ++asked;
    return credentials{.password = "wrong"};
  };
  client redis{options};
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    const auto fault = failure_of([&] { redis.execute("PING"); });
    CHECK(fault.code == errc::auth);
    CHECK(fault.execution == execution::not_sent);
  }
  CHECK(std::chrono::steady_clock::now() - begin < 10s);
  CHECK(asked < 5);
}
