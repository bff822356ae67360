// What runs on a connection of one's own, against a real server.

#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/exclusive_rig.hpp"
#include "support/redis_probe.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <optional>
#include <stop_token>
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
using support::is;
using support::undeterred;
using testing::redis_server;

using rig = support::exclusive_rig;

std::int64_t id_of(exclusive_connection& own) { return own.execute("CLIENT", "ID").integer(); }

}  // namespace

TEST_CASE("a BLPOP is answered by what another client pushes, and holds up nobody else") {
  rig on;
  auto popped = support::on_thread([&] {
    exclusive_connection own = on.redis.exclusive();
    return own.execute_for(30s, "BLPOP", "jobs", 25);
  });
  REQUIRE(on.has_blocked(1));
  CHECK(on.redis.execute("PING").str() == "PONG");
  on.other.execute("RPUSH", "jobs", "first");
  const reply job = popped.get();
  CHECK(job[0].str() == "jobs");
  CHECK(job[1].str() == "first");
}

TEST_CASE("an XREAD that blocks is answered by the next entry") {
  rig on;
  auto read = support::on_thread([&] {
    exclusive_connection own = on.redis.exclusive();
    return own.execute_for(30s, "XREAD", "BLOCK", 25'000, "STREAMS", "log", "$");
  });
  REQUIRE(on.has_blocked(1));
  on.other.execute("XADD", "log", "7-1", "field", "value");
  const reply entries = read.get();
  CHECK(entries[0][0].str() == "log");
  CHECK(entries[0][1][0][0].str() == "7-1");
}

TEST_CASE("a BLPOP that the server lets go answers nil, and the connection goes on") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  CHECK(own.execute_for(20s, "BLPOP", "jobs", "0.01").is_nil());
  CHECK(own.execute("PING").str() == "PONG");
}

TEST_CASE("EXEC runs what was queued when nobody touched the watched key, and nothing when somebody did") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  on.other.execute("SET", "balance", 10);
  own.execute("WATCH", "balance");
  own.execute("MULTI");
  CHECK(own.execute("INCRBY", "balance", 5).str() == "QUEUED");
  CHECK(own.execute("EXEC")[0].integer() == 15);

  own.execute("WATCH", "balance");
  on.other.execute("SET", "balance", 100);
  own.execute("MULTI");
  own.execute("INCRBY", "balance", 5);
  CHECK(own.execute("EXEC").is_nil());
  CHECK(on.other.execute("GET", "balance").str() == "100");
}

TEST_CASE("a whole transaction goes in one call, with errors as values") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  const auto replies = own.execute_all(
      {command{"MULTI"}, command{"SET", "k", "text"}, command{"INCR", "k"}, command{"GET", "k"}, command{"EXEC"}});
  REQUIRE(replies.size() == 5);
  CHECK(replies[1].str() == "QUEUED");
  CHECK(replies[4][1].is_error());
  CHECK(replies[4][2].str() == "text");
}

TEST_CASE("WAIT counts the replicas that have the writes of its own connection") {
  rig on;
  on.other.execute("CONFIG", "SET", "repl-diskless-sync-delay", 0);
  const redis_server replica{{.arguments = {"--replicaof", "127.0.0.1", std::to_string(on.server.port())}}};
  REQUIRE(eventually(
      [&] { return on.other.execute("INFO", "replication").str().find("state=online") != std::string::npos; }));
  exclusive_connection own = on.redis.exclusive();
  own.execute("SET", "k", "v");
  CHECK(own.execute_for(40s, "WAIT", 1, 20'000).integer() == 1);
}

TEST_CASE("an exclusive connection is opened by its first call") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  on.redis.execute("PING");
  const auto clients = [&] {
    std::size_t lines = 0;
    for (const char c : on.other.execute("CLIENT", "LIST").str()) lines += c == '\n' ? 1U : 0U;
    return lines;
  };
  CHECK(clients() == 2);
  id_of(own);
  CHECK(clients() == 3);
}

TEST_CASE("a connection that was given back is used again, by one caller at a time") {
  rig on;
  std::int64_t first = 0;
  {
    exclusive_connection own = on.redis.exclusive();
    first = id_of(own);
  }
  exclusive_connection again = on.redis.exclusive();
  CHECK(id_of(again) == first);
  exclusive_connection another = on.redis.exclusive();
  CHECK(id_of(another) != first);
}

TEST_CASE("a connection is used again after EXEC, DISCARD and UNWATCH") {
  rig on;
  const std::vector<std::vector<command>> ends{
      {command{"WATCH", "k"}, command{"MULTI"}, command{"SET", "k", 1}, command{"EXEC"}},
      {command{"WATCH", "k"}, command{"MULTI"}, command{"DISCARD"}},
      {command{"WATCH", "k"}, command{"UNWATCH"}}};
  for (const auto& commands : ends) {
    std::int64_t before = 0;
    {
      exclusive_connection own = on.redis.exclusive();
      before = id_of(own);
      own.execute_all(commands);
    }
    exclusive_connection next = on.redis.exclusive();
    CHECK(id_of(next) == before);
  }
}

TEST_CASE("a connection that is given back with a WATCH or a MULTI open is closed") {
  rig on;
  const std::vector<std::vector<command>> left_open{{command{"WATCH", "k"}},
                                                    {command{"MULTI"}},
                                                    {command{"MULTI"}, command{"SET", "k", 1}},
                                                    {command{"WATCH", "k"}, command{"MULTI"}, command{"UNWATCH"}}};
  for (const auto& commands : left_open) {
    std::int64_t before = 0;
    {
      exclusive_connection own = on.redis.exclusive();
      before = id_of(own);
      own.execute_all(commands);
    }
    CHECK(eventually([&] { return !on.connected(before); }));
    exclusive_connection next = on.redis.exclusive();
    CHECK(id_of(next) != before);
  }
  CHECK(on.other.execute("EXISTS", "k").integer() == 0);
}

TEST_CASE("what the next user would inherit is refused, and the connection goes on") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  const std::int64_t id = id_of(own);
  const std::vector<command> refused{command{"SELECT", 1},
                                     command{"AUTH", "x"},
                                     command{"HELLO", 3},
                                     command{"subscribe", "c"},
                                     command{"PSUBSCRIBE", "*"},
                                     command{"SSUBSCRIBE", "c"},
                                     command{"MONITOR"},
                                     command{"RESET"},
                                     command{"QUIT"},
                                     command{"CLIENT", "REPLY", "OFF"},
                                     command{"client", "tracking", "on"},
                                     command{"CLIENT", "NO-TOUCH", "ON"},
                                     command{"SCRIPT", "DEBUG", "YES"},
                                     command{"SYNC"}};
  for (const command& each : refused) {
    CAPTURE(each.name());
    CHECK(is(failure_of([&] { own.execute(each); }), errc::refused_command, execution::not_sent));
  }
  // One of several refuses all.
  const auto several = failure_of([&] { own.execute_all({command{"SET", "k", 1}, command{"SELECT", 1}}); });
  CHECK(is(several, errc::refused_command, execution::not_sent));
  CHECK(on.other.execute("EXISTS", "k").integer() == 0);
  CHECK(id_of(own) == id);
}

TEST_CASE("an error reply leaves an exclusive connection as it is") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  const std::int64_t id = id_of(own);
  own.execute("SET", "k", "text");
  CHECK(failure_of([&] { own.execute("LPUSH", "k", 1); }).code == errc::wrong_type);
  CHECK(failure_of([&] { own.execute("EXEC"); }).code == errc::server);
  CHECK(id_of(own) == id);
}
