// Which commands are sent again, and which are not, against a real server.

#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/fault_proxy.hpp"
#include "support/redis_probe.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::caught;
using support::eventually;
using support::failure_of;
using support::fault_proxy;
using support::faults;
using support::flow;
using support::reach;
using support::undeterred;
using testing::redis_server;

constexpr faults held{.carries = faults::transport::holds};

/// A server of the test's own, a client whose connection can be cut, and one that is left alone.
struct rig {
  rig() { redis.execute("PING"); }

  void kill_connection() { other.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"); }
  /// What INFO commandstats says of a command: "calls" or "rejected_calls".
  [[nodiscard]] std::int64_t stat_of(const std::string& command, const std::string& field) {
    const std::string stats = other.execute("INFO", "commandstats").str();
    const auto line = stats.find("cmdstat_" + command + ":");
    if (line == std::string::npos) return 0;
    const auto at = stats.find(field + "=", line);
    return std::stoll(stats.substr(at + field.size() + 1));
  }
  [[nodiscard]] std::int64_t calls_of(const std::string& command) { return stat_of(command, "calls"); }

  redis_server server = [] {
    support::need_redis();
    return redis_server{};
  }();
  fault_proxy proxy{server.port()};
  client redis{undeterred(proxy.url() + "?timeout=20s")};
  client other{undeterred(server.unix_url() + "?timeout=20s")};
};

/// The outcome of a command whose connection is cut after the server has run it and before its reply arrives. The text
/// is the reply where nothing failed.
caught when_cut(rig& on, const command& one, retry policy) {
  on.redis.execute("PING");  // there is a connection
  on.proxy.apply(flow::to_client, held, reach::open);
  const auto before = on.proxy.taken(flow::to_client);
  auto outcome = support::on_thread([&]() -> caught {
    try {
      const auto through = on.redis.with({.retry = policy});
      const reply answer = through.execute(one);
      return {errc::unexpected_reply, execution::executed, answer.is_nil() ? "nil" : answer.str()};
    } catch (const error& fault) {
      return {fault.code(), fault.execution(), fault.what()};
    }
  });
  const bool replied = eventually([&] { return on.proxy.taken(flow::to_client) > before; });
  on.proxy.reset();
  const caught how = outcome.get();
  REQUIRE(replied);
  return how;
}

bool is_unknown(const caught& how) { return how.code == errc::connection_lost && how.execution == execution::unknown; }

}  // namespace

TEST_CASE("reads survive kills of their connection between calls") {
  rig on;
  on.other.execute("SET", "k", "v");
  for (int i = 0; i < 10; ++i) {
    on.kill_connection();
    CHECK(on.redis.execute("GET", "k").str() == "v");
  }
}

TEST_CASE("a read in flight survives the loss of its connection") {
  rig on;
  on.other.execute("SET", "k", "v");
  CHECK(when_cut(on, command{"GET", "k"}, retry::reads).text == "v");
  CHECK(on.calls_of("get") == 2);
}

TEST_CASE("a write in flight ends unknown when its connection is lost, and is not repeated") {
  rig on;
  CHECK(is_unknown(when_cut(on, command{"INCR", "n"}, retry::reads)));
  CHECK(is_unknown(when_cut(on, command{"SET", "k", "v"}, retry::reads)));
  CHECK(on.redis.execute("GET", "n").str() == "1");
  CHECK(on.calls_of("incr") == 1);
  CHECK(on.calls_of("set") == 1);
}

TEST_CASE("a script in flight is not repeated, nor are a read and a write together") {
  rig on;
  CHECK(is_unknown(when_cut(on, command{"EVAL", "return redis.call('GET', 'k')", 0}, retry::reads)));
  on.redis.execute("PING");
  on.proxy.apply(flow::to_client, held, reach::open);
  const auto before = on.proxy.taken(flow::to_client);
  auto failed = support::on_thread([&] {
    try {
      on.redis.execute_all({command{"GET", "k"}, command{"INCR", "n"}});
    } catch (const error& fault) {
      return fault.execution();
    }
    return execution::executed;
  });
  const bool replied = eventually([&] { return on.proxy.taken(flow::to_client) > before; });
  on.proxy.reset();
  CHECK(failed.get() == execution::unknown);
  CHECK(replied);
  CHECK(on.redis.execute("GET", "n").str() == "1");
}

TEST_CASE("what its caller calls idempotent is repeated when the connection is lost") {
  rig on;
  CHECK(when_cut(on, command{"SET", "k", "v"}, retry::idempotent).text == "OK");
  CHECK(on.calls_of("set") == 2);
}

TEST_CASE("with retry::never not even a read is repeated") {
  rig on;
  CHECK(is_unknown(when_cut(on, command{"GET", "k"}, retry::never)));
  CHECK(on.calls_of("get") == 1);
}

TEST_CASE("a command that cannot reach the server is repeated until its deadline, and no longer") {
  rig on;
  on.proxy.refuse();
  on.proxy.reset();
  const auto fault = failure_of([&] { on.redis.with({.timeout = 100ms}).execute("GET", "k"); });
  CHECK(fault.code == errc::unreachable);
  CHECK(fault.execution == execution::not_sent);
}

TEST_CASE("a connection that the server closed for being idle costs no command") {
  rig on;
  client direct{on.server.url()};  // a proxy would tell of the end a little later than the server
  on.other.execute("CONFIG", "SET", "timeout", 1);
  for (int i = 1; i <= 3; ++i) {
    CHECK(direct.execute("INCR", "n").integer() == i);
    REQUIRE(eventually([&] {  // the other client comes by the Unix socket
      return on.other.execute("CLIENT", "LIST").str().find("addr=127.0.0.1:") == std::string::npos;
    }));
  }
  CHECK(direct.metrics().lanes.front().connects == 3);
}

TEST_CASE("writes to a server that became a replica say so, and work again after it is a master") {
  rig on;
  // A connection that leads to a replica is left when it is older than a second.
  REQUIRE(eventually([&] { return on.redis.execute("CLIENT", "INFO").str().find(" age=2 ") != std::string::npos; }));
  on.redis.execute("INCR", "n");
  on.other.execute("REPLICAOF", "127.0.0.1", 1);
  const auto fault = failure_of([&] { on.redis.execute("INCR", "n"); });
  CHECK(fault.code == errc::read_only);
  CHECK(fault.execution == execution::rejected);
  CHECK(on.redis.execute("GET", "n").str() == "1");
  on.other.execute("REPLICAOF", "NO", "ONE");
  CHECK(on.redis.execute("INCR", "n").integer() == 2);
  CHECK(on.proxy.connections() >= 2);
}

TEST_CASE("a write meets the end of a short demotion within its deadline") {
  rig on;
  on.other.execute("REPLICAOF", "127.0.0.1", 1);
  const support::must_end limit;
  auto counted = support::on_thread([&] {
    for (;;) {  // it gives up after a few tries, of some ten milliseconds each
      try {
        return on.redis.execute("INCR", "n").integer();
      } catch (const server_error& fault) {
        if (fault.code() != errc::read_only) throw;
      }
    }
  });
  REQUIRE(eventually([&] { return on.stat_of("incr", "rejected_calls") >= 2; }));
  on.other.execute("REPLICAOF", "NO", "ONE");
  CHECK(counted.get() == 1);
}

TEST_CASE("a server that is busy with a script is not_ready to others, rejected, and recovers") {
  rig on;
  on.other.execute("CONFIG", "SET", "busy-reply-threshold", 10);
  auto busy = support::on_thread([&] {
    const auto how = failure_of([&] { on.other.execute("EVAL", "while true do end", 0); });
    return how.execution;
  });
  caught fault;
  CHECK(eventually([&] {
    try {
      on.redis.execute("GET", "k");
      return false;
    } catch (const server_error& refused) {
      fault = {refused.code(), refused.execution(), refused.server_text()};
      return true;
    }
  }));
  CHECK(fault.code == errc::not_ready);
  CHECK(fault.execution == execution::rejected);
  CHECK(fault.text.starts_with("BUSY"));
  CHECK(on.redis.execute("SCRIPT", "KILL").str() == "OK");
  CHECK(busy.get() == execution::unknown);
  CHECK(on.redis.execute("GET", "k").is_nil());
}
