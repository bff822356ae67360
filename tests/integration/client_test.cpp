// A client against a real server.

#include "support/errors.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::failure_of;
using testing::redis_server;

std::string host_and_port(const redis_server& server) { return server.url().substr(8); }

std::int64_t calls_of(client& redis, const std::string& command) {
  const std::string stats = redis.execute("INFO", "commandstats").str();
  const auto at = stats.find("cmdstat_" + command + ":calls=");
  return at == std::string::npos ? 0 : std::stoll(stats.substr(at + command.size() + 15));
}

std::size_t threads_of_this_process() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Threads:")) return std::stoul(line.substr(8));
  }
  return 0;
}

}  // namespace

TEST_CASE("every type of reply arrives as it was sent") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const std::string bytes{"a\0b\r\nc\xff", 7};
  CHECK(redis.execute("SET", "k", bytes).type() == reply_type::status);
  CHECK(redis.execute("GET", "k").str() == bytes);
  CHECK(redis.execute("GET", "missing").is_nil());
  CHECK(redis.execute("INCRBY", "n", 41).integer() == 41);
  CHECK(redis.execute("INCRBYFLOAT", "f", 0.1).str() == "0.1");
  redis.execute("RPUSH", "l", "a", "b");
  CHECK(redis.execute("LRANGE", "l", 0, -1)[1].str() == "b");
  CHECK(redis.execute("LRANGE", "nothing", 0, -1).elements().empty());
}

TEST_CASE("an error reply throws what the server said, and the connection goes on") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  redis.execute("SET", "text", "x");
  try {
    redis.execute("LPUSH", "text", "y");
    FAIL("accepted");
  } catch (const server_error& fault) {
    CHECK(fault.code() == errc::wrong_type);
    CHECK(fault.execution() == execution::rejected);
    CHECK(fault.server_text().starts_with("WRONGTYPE"));
    CHECK(std::string{fault.what()}.starts_with("LPUSH: WRONGTYPE"));
  }
  CHECK(redis.execute("GET", "text").str() == "x");
}

TEST_CASE("user, password, database and name of the URL are those of the connection") {
  support::need_redis();
  const redis_server server{{.arguments = {"--requirepass", "se cret"}}};
  client admin{"redis://:se%20cret@" + host_and_port(server)};
  admin.execute("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all");
  client redis{"redis://bob:pw@" + host_and_port(server) + "/5?client_name=dashboards"};
  redis.execute("SET", "k", 1);
  const std::string info = redis.execute("CLIENT", "INFO").str();
  CHECK(info.find(" user=bob ") != std::string::npos);
  CHECK(info.find(" db=5 ") != std::string::npos);
  CHECK(info.find(" name=dashboards ") != std::string::npos);
  CHECK(admin.execute("GET", "k").is_nil());
}

TEST_CASE("a wrong or missing password is an auth error that does not show it") {
  support::need_redis();
  const redis_server server{{.arguments = {"--requirepass", "secret"}}};
  for (const std::string& url : {"redis://:wr0ng@" + host_and_port(server),
                                 "redis://eve:wr0ng@" + host_and_port(server), "redis://" + host_and_port(server)}) {
    client redis{url};
    const auto fault = failure_of([&] { redis.execute("GET", "k"); });
    CHECK(fault.code == errc::auth);
    CHECK(fault.execution == execution::not_sent);
    CHECK(fault.text.find("wr0ng") == std::string::npos);
  }
}

TEST_CASE("a database that the server does not have is refused when connecting") {
  support::need_redis();
  const redis_server server;
  client redis{server.url() + "/4000"};
  const auto fault = failure_of([&] { redis.execute("PING"); });
  CHECK(fault.code == errc::server);
  CHECK(fault.text.find("DB index") != std::string::npos);
}

TEST_CASE("a Unix socket serves like TCP") {
  support::need_redis();
  const redis_server server;
  client redis{server.unix_url() + "?db=2"};
  redis.execute("SET", "k", "v");
  CHECK(redis.execute("GET", "k").str() == "v");
  CHECK(redis.execute("CLIENT", "INFO").str().find(" db=2 ") != std::string::npos);
}

TEST_CASE("a server in cluster mode is refused as unsupported") {
  support::need_redis();
  const redis_server server{{.arguments = {"--cluster-enabled", "yes"}}};
  client redis{server.url()};
  CHECK(failure_of([&] { redis.execute("PING"); }).code == errc::unsupported);
}

TEST_CASE("a refused port and a name that does not resolve are unreachable, with nothing sent") {
  client refused{"redis://127.0.0.1:1"};
  const auto port = failure_of([&] { refused.with({.timeout = 20s, .down = when_down::fail}).execute("PING"); });
  CHECK(port.code == errc::unreachable);
  CHECK(port.execution == execution::not_sent);
  CHECK(port.text.find("redis://127.0.0.1:1") != std::string::npos);
  client nameless{"redis://no-such-host.invalid"};
  const auto name = failure_of([&] { nameless.with({.timeout = 20s, .down = when_down::fail}).execute("PING"); });
  CHECK(name.code == errc::unreachable);
  CHECK(name.execution == execution::not_sent);
  CHECK(name.text.find("no-such-host.invalid") != std::string::npos);
}

TEST_CASE("a call waits for a server that is not there until its deadline, and tells why") {
  client redis{"redis://127.0.0.1:1"};
  for (const auto patience : {100ms, 10ms}) {  // also where an attempt has just failed
    const auto begin = std::chrono::steady_clock::now();
    const auto fault = failure_of([&] { redis.with({.timeout = patience}).execute("PING"); });
    CHECK(std::chrono::steady_clock::now() - begin >= patience);
    CHECK(fault.code == errc::unreachable);
    CHECK(fault.execution == execution::not_sent);
    CHECK(fault.text.find("refused") != std::string::npos);
  }
}

TEST_CASE("with when_down::fail a call does not wait for a server that is not there") {
  client_options options = client_options::from_url("redis://127.0.0.1:1?timeout=10min");
  options.down = when_down::fail;
  client redis{options};
  for (int i = 0; i < 20; ++i) {
    const auto fault = failure_of([&] { redis.execute("PING"); });
    CHECK(fault.code == errc::unreachable);
    CHECK(fault.execution == execution::not_sent);
  }
  const auto waits = redis.with({.timeout = 50ms, .down = when_down::wait});
  CHECK(failure_of([&] { waits.execute("PING"); }).code == errc::unreachable);
}

TEST_CASE("a host name is resolved, and the client keeps no thread of its own") {
  support::need_redis();
  const redis_server server;
  std::thread{[] {}}.join();  // the first thread of a program makes ThreadSanitizer start one of its own
  const std::size_t before = threads_of_this_process();
  client redis{"redis://localhost:" + std::to_string(server.port())};
  CHECK(redis.execute("PING").str() == "PONG");
  CHECK(support::eventually([&] { return threads_of_this_process() == before; }));
}

TEST_CASE("a script runs by its digest, and is sent once when the server does not know it") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const script sum{"return {KEYS[1], ARGV[1] + ARGV[2]}"};
  for (int i = 0; i < 3; ++i) {
    const reply answer = redis.eval(sum, {"k"}, {"2", "3"});
    CHECK(answer[0].str() == "k");
    CHECK(answer[1].integer() == 5);
  }
  CHECK(calls_of(redis, "eval") == 1);
  CHECK(calls_of(redis, "evalsha") == 3);
  redis.execute("SCRIPT", "FLUSH");
  CHECK(redis.eval(sum, {"k"}, {"2", "3"})[1].integer() == 5);
  CHECK(redis.execute("SCRIPT", "LOAD", sum.body()).str() == sum.sha());
}

TEST_CASE("an error of a script leaves its execution unknown") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const script half{"redis.call('SET', KEYS[1], 1) return redis.call('LPUSH', KEYS[1], 2)"};
  CHECK(failure_of([&] { redis.eval(half, {"k"}); }).execution == execution::unknown);
  CHECK(redis.execute("GET", "k").str() == "1");
}

TEST_CASE("commands that would break the shared connection are refused, and it stays usable") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  for (const char* name : {"SUBSCRIBE", "select", "MULTI", "Blpop", "WATCH", "QUIT", "MONITOR"}) {
    const auto fault = failure_of([&] { redis.execute(name, "1"); });
    CHECK(fault.code == errc::refused_command);
    CHECK(fault.execution == execution::not_sent);
  }
  CHECK(failure_of([&] { redis.execute("CLIENT", "REPLY", "OFF"); }).code == errc::refused_command);
  CHECK(redis.execute("PING").str() == "PONG");
}

TEST_CASE("a value of 32 MiB makes the round trip") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  auto patient = redis.with({.timeout = 60s});
  const std::string large(32U << 20U, 'v');
  patient.execute("SET", "large", large);
  CHECK(patient.execute("GET", "large").str() == large);
}

TEST_CASE("threads share one connection, and each gets its own replies") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  auto patient = redis.with({.timeout = 60s});
  std::atomic<int> wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 32; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 300; ++i) {
          const std::string own = std::to_string(t) + "/" + std::to_string(i);
          if (patient.execute("ECHO", own).str() != own) ++wrong;
        }
      });
    }
  }
  CHECK(wrong == 0);
  const std::string list = redis.execute("CLIENT", "LIST").str();
  CHECK(std::ranges::count(list, '\n') == 1);
}
