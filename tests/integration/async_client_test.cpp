// What coroutines get from a real server.

#include "support/async_calls.hpp"
#include "support/errors.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::failure_of;
using support::result_of;
using support::started;
using support::under_way;
using testing::redis_server;

std::int64_t calls_of(client& redis, const std::string& name) {
  const std::string stats = redis.execute("INFO", "commandstats").str();
  const auto at = stats.find("cmdstat_" + name + ":calls=");
  return at == std::string::npos ? 0 : std::stoll(stats.substr(at + name.size() + 15));
}

task<std::vector<reply>> one_of_each_type(client& redis, std::string bytes) {
  std::vector<reply> all;
  all.push_back(co_await redis.async_execute("SET", "k", bytes));
  all.push_back(co_await redis.async_execute("GET", "k"));
  all.push_back(co_await redis.async_execute("GET", "missing"));
  all.push_back(co_await redis.async_execute("INCRBY", "n", -41));
  all.push_back(co_await redis.async_execute("RPUSH", "l", "a", "b"));
  all.push_back(co_await redis.async_execute("LRANGE", "l", 0, -1));
  all.push_back(co_await redis.async_execute("LRANGE", "nothing", 0, -1));
  co_return all;
}

task<std::optional<server_error>> caught_inside(client& redis) {
  co_await redis.async_execute("SET", "text", "x");
  try {
    co_await redis.async_execute("LPUSH", "text", "y");
  } catch (const server_error& fault) {
    co_return fault;
  }
  co_return std::nullopt;
}

task<int> echo_wrong(const caller& redis, int number, int times) {
  int wrong = 0;
  for (int i = 0; i < times; ++i) {
    const std::string own = std::to_string(number) + "/" + std::to_string(i);
    const reply answer = co_await redis.async_execute("ECHO", own);
    if (answer.str() != own) ++wrong;
  }
  co_return wrong;
}

int sum(const std::vector<int>& all) {
  int total = 0;
  for (const int each : all) total += each;
  return total;
}

}  // namespace

TEST_CASE("every type of reply arrives in a coroutine as it was sent") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const std::string bytes{"a\0b\r\nc\xff", 7};
  const std::vector<reply> all = sync_wait(one_of_each_type(redis, bytes));
  REQUIRE(all.size() == 7);
  CHECK(all[0].type() == reply_type::status);
  CHECK(all[1].str() == bytes);
  CHECK(all[2].is_nil());
  CHECK(all[3].integer() == -41);
  CHECK(all[4].integer() == 2);
  CHECK(all[5][1].str() == "b");
  CHECK(all[6].elements().empty());
}

TEST_CASE("async_execute_all gives its replies in order, with error replies as values") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  std::vector<command> commands;
  commands.emplace_back("SET", "k", 7);
  commands.emplace_back("LPUSH", "k", "x");
  commands.emplace_back("INCR", "k");
  commands.emplace_back("NOSUCHCOMMAND");
  for (int i = 0; i < 500; ++i) commands.emplace_back("ECHO", i);
  const std::vector<reply> replies = sync_wait(redis.async_execute_all(std::move(commands)));
  REQUIRE(replies.size() == 504);
  CHECK(replies[0].str() == "OK");
  CHECK(replies[1].error_text().starts_with("WRONGTYPE"));
  CHECK(replies[2].integer() == 8);
  CHECK(replies[3].is_error());
  for (std::size_t i = 0; i < 500; ++i) CHECK(replies[4 + i].str() == std::to_string(i));
}

TEST_CASE("no commands are done without a server") {
  client redis{"redis://127.0.0.1:1"};
  CHECK(sync_wait(redis.async_execute_all({})).empty());
}

TEST_CASE("a coroutine's script runs by its digest, and is sent once when the server does not know it") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const script sum_of{"return {KEYS[1], ARGV[1] + ARGV[2]}"};
  for (int i = 0; i < 3; ++i) {
    const reply answer = sync_wait(redis.async_eval(sum_of, {"k"}, {"2", "3"}));
    CHECK(answer[0].str() == "k");
    CHECK(answer[1].integer() == 5);
  }
  CHECK(calls_of(redis, "eval") == 1);
  CHECK(calls_of(redis, "evalsha") == 3);
  redis.execute("SCRIPT", "FLUSH");
  CHECK(sync_wait(redis.async_eval(sum_of, {"k"}, {"2", "3"}))[1].integer() == 5);
  CHECK(calls_of(redis, "eval") == 2);
}

TEST_CASE("an error inside a coroutine's script is not mistaken for an unknown script") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const script half{"redis.call('INCR', KEYS[1]) return redis.call('LPUSH', KEYS[1], 2)"};
  CHECK(failure_of(redis.async_eval(half, {"k"})).execution == execution::unknown);
  CHECK(redis.execute("GET", "k").str() == "1");
}

TEST_CASE("an error reply throws in the coroutine what the server said, and the connection goes on") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const std::optional<server_error> fault = sync_wait(caught_inside(redis));
  REQUIRE(fault);
  CHECK(fault->code() == errc::wrong_type);
  CHECK(fault->execution() == execution::rejected);
  CHECK(fault->server_text().starts_with("WRONGTYPE"));
  CHECK(std::string{fault->what()}.starts_with("LPUSH: WRONGTYPE"));
  CHECK(sync_wait(redis.async_execute("GET", "text")).str() == "x");
}

TEST_CASE("commands that would break the connection of all coroutines are refused, and it stays usable") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  for (const char* name : {"SUBSCRIBE", "select", "MULTI", "Blpop", "WATCH", "QUIT", "MONITOR"}) {
    const auto fault = failure_of(redis.async_execute(name, "1"));
    CHECK(fault.code == errc::refused_command);
    CHECK(fault.execution == execution::not_sent);
  }
  CHECK(sync_wait(redis.async_execute("PING")).str() == "PONG");
}

TEST_CASE("a wrong password fails a coroutine as auth, without showing it") {
  support::need_redis();
  const redis_server server{{.arguments = {"--requirepass", "secret"}}};
  client redis{"redis://:wr0ng@" + server.url().substr(8)};
  for (int i = 0; i < 2; ++i) {  // by the attempt, and by what is known of it
    const auto fault = failure_of(redis.async_execute("GET", "k"));
    CHECK(fault.code == errc::auth);
    CHECK(fault.execution == execution::not_sent);
    CHECK(fault.text.find("wr0ng") == std::string::npos);
  }
}

TEST_CASE("1000 coroutines in flight on one client each get their own replies") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const caller patient = redis.with({.timeout = 30s});
  std::vector<task<int>> all;
  for (int i = 0; i < 1000; ++i) all.push_back(echo_wrong(patient, i, 5));
  CHECK(sum(sync_wait(when_all(std::move(all)))) == 0);
}

TEST_CASE("coroutines started by several threads, and blocking calls among them, each get their own replies") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const caller patient = redis.with({.timeout = 30s});
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&patient, &wrong, t] {
        std::vector<task<int>> all;
        for (int i = 0; i < 20; ++i) all.push_back(echo_wrong(patient, 100 * t + i, 20));
        wrong += sum(sync_wait(when_all(std::move(all))));
        for (int i = 0; i < 50; ++i) {
          if (patient.execute("ECHO", t * i).str() != std::to_string(t * i)) ++wrong;
        }
      });
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("calls of coroutines run in the order in which they were started") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const tenant_id acme{"acme"};
  for (const tenant_id* tenant : {static_cast<const tenant_id*>(nullptr), &acme}) {
    redis.execute("DEL", "list");
    const caller patient = redis.with({.timeout = 30s, .tenant = tenant});
    std::vector<under_way<reply>> calls;
    for (int i = 0; i < 250; ++i) calls.push_back(started(patient.async_execute("RPUSH", "list", i)));
    for (auto& each : calls) result_of(each);
    const reply list = redis.execute("LRANGE", "list", 0, -1);
    REQUIRE(list.elements().size() == 250);
    for (std::size_t i = 0; i < 250; ++i) CHECK(list[i].str() == std::to_string(i));
  }
}

TEST_CASE("a call keeps what it was made of, and does nothing before it is awaited") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  std::optional<task<reply>> later;
  {
    std::string value(1000, 'v');
    later.emplace(redis.async_execute("SET", "k", value));
    value.assign(1000, 'x');
  }
  CHECK(redis.execute("GET", "k").is_nil());
  CHECK(sync_wait(std::move(*later)).str() == "OK");
  CHECK(redis.execute("GET", "k").str() == std::string(1000, 'v'));
  { const auto never = redis.async_execute("SET", "other", 1); }
  CHECK(redis.execute("EXISTS", "other").integer() == 0);
}

TEST_CASE("the deadline of a call begins when it is awaited") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  sync_wait(redis.async_execute("PING"));
  auto later = redis.with({.timeout = 500ms}).async_execute("PING");
  std::this_thread::sleep_for(550ms);  // longer than the timeout
  CHECK(sync_wait(std::move(later)).str() == "PONG");
}

TEST_CASE("a value of 32 MiB makes the round trip through a coroutine") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const caller patient = redis.with({.timeout = 60s});
  const std::string large(32U << 20U, 'v');
  sync_wait(patient.async_execute("SET", "large", large));
  CHECK(sync_wait(patient.async_execute("GET", "large")).str() == large);
}
