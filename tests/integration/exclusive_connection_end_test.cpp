// How an exclusive connection ends: deadlines, stops, losses, close and fork.

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

/// For another thread than the test's. `timeout` is the error's when nothing failed.
caught outcome_of(exclusive_connection& own, const command& one, const call_options& how) {
  try {
    own.execute(one, how);
  } catch (const error& fault) {
    return {fault.code(), fault.execution(), fault.what()};
  }
  return {errc::unexpected_reply, execution::executed, "nothing failed"};
}

std::int64_t id_of(exclusive_connection& own) { return own.execute("CLIENT", "ID").integer(); }

/// The connection is gone for its owner, and whoever takes the next one gets another.
void is_lost(rig& on, exclusive_connection own, std::int64_t id) {
  for (int i = 0; i < 2; ++i) {
    CHECK(is(failure_of([&] { own.execute("PING"); }), errc::connection_lost, execution::not_sent));
  }
  CHECK(eventually([&] { return !on.connected(id); }));
  { const exclusive_connection given_back = std::move(own); }
  exclusive_connection next = on.redis.exclusive();
  CHECK(id_of(next) != id);
}

}  // namespace

TEST_CASE("a deadline that passes before the answer loses the exclusive connection") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  const std::int64_t id = id_of(own);
  const auto fault = failure_of([&] { own.execute_for(50ms, "BLPOP", "jobs", 0); });
  CHECK(is(fault, errc::timeout, execution::unknown));
  is_lost(on, std::move(own), id);
  on.other.execute("RPUSH", "jobs", "kept");  // no dead waiter takes it
  CHECK(on.other.execute("LLEN", "jobs").integer() == 1);
}

TEST_CASE("a stop token ends a BLPOP that waits for ever within a second, and loses the connection") {
  const support::must_end limit;
  rig on;
  exclusive_connection own = on.redis.exclusive();
  const std::int64_t id = id_of(own);
  std::stop_source stop;
  auto popped = support::on_thread([&] {
    const call_options how{.timeout = no_timeout, .stop = stop.get_token()};
    return outcome_of(own, command{"BLPOP", "jobs", 0}, how);
  });
  REQUIRE(on.has_blocked(1));
  const auto begin = std::chrono::steady_clock::now();
  stop.request_stop();
  const caught fault = popped.get();
  CHECK(std::chrono::steady_clock::now() - begin < 10 * 1s);
  CHECK(is(fault, errc::cancelled, execution::unknown));
  is_lost(on, std::move(own), id);
}

TEST_CASE("a token that was triggered before ends the call unsent, and the connection goes on") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  const std::int64_t id = id_of(own);
  std::stop_source stop;
  stop.request_stop();
  const auto fault = failure_of([&] { own.execute(command{"SET", "k", 1}, {.stop = stop.get_token()}); });
  CHECK(is(fault, errc::cancelled, execution::not_sent));
  CHECK(on.other.execute("EXISTS", "k").integer() == 0);
  CHECK(id_of(own) == id);
}

TEST_CASE("an EXEC that was never sent leaves its transaction open, so the connection is not used again") {
  rig on;
  {
    exclusive_connection own = on.redis.exclusive();
    own.execute("MULTI");
    std::stop_source stop;
    stop.request_stop();
    CHECK(failure_of([&] { own.execute(command{"EXEC"}, {.stop = stop.get_token()}); }).execution ==
          execution::not_sent);
  }
  CHECK(on.redis.exclusive().execute("PING").str() == "PONG");
}

TEST_CASE("a DISCARD or UNWATCH that was not sent, or refused, ends nothing") {
  rig on;
  std::stop_source stop;
  stop.request_stop();
  const call_options stopped{.stop = stop.get_token()};
  {
    exclusive_connection own = on.redis.exclusive();
    own.execute("MULTI");
    CHECK(failure_of([&] { own.execute("DISCARD", "too", "many", "words"); }).code == errc::server);
  }
  CHECK(on.redis.exclusive().execute("PING").str() == "PONG");
  std::int64_t before = 0;
  {
    exclusive_connection own = on.redis.exclusive();
    before = id_of(own);
    own.execute("WATCH", "k");
    CHECK(failure_of([&] { own.execute(command{"UNWATCH"}, stopped); }).execution == execution::not_sent);
  }
  exclusive_connection next = on.redis.exclusive();
  CHECK(id_of(next) != before);
}

TEST_CASE("a server that is killed leaves a BLPOP unknown, and its connection lost") {
  const support::must_end limit;
  rig on;
  exclusive_connection own = on.redis.exclusive();
  auto popped = support::on_thread([&] {
    return outcome_of(own, command{"BLPOP", "jobs", 0}, {.timeout = no_timeout});
  });
  REQUIRE(on.has_blocked(1));
  on.server.kill();
  CHECK(is(popped.get(), errc::connection_lost, execution::unknown));
  on.server.start();
  CHECK(is(failure_of([&] { own.execute("PING"); }), errc::connection_lost, execution::not_sent));
  CHECK(on.redis.exclusive().execute("PING").str() == "PONG");
}

TEST_CASE("a connection that is killed between calls loses its transaction with it") {
  rig on;
  exclusive_connection own = on.redis.exclusive();
  own.execute("MULTI");
  own.execute("SET", "k", 1);
  on.kill_connections();
  const auto fault = failure_of([&] { own.execute("EXEC"); });
  CHECK(fault.code == errc::connection_lost);
  CHECK(is(failure_of([&] { own.execute("EXEC"); }), errc::connection_lost, execution::not_sent));
  CHECK(on.other.execute("EXISTS", "k").integer() == 0);
}

TEST_CASE("a connection that was killed while nobody had it is not given to the next caller") {
  rig on;
  { CHECK(on.redis.exclusive().execute("PING").str() == "PONG"); }
  std::this_thread::sleep_for(150ms);  // the time after which a connection counts as idle
  on.kill_connections();
  CHECK(on.redis.exclusive().execute("PING").str() == "PONG");
}

TEST_CASE("more exclusive connections than the bound are refused, until one is given back") {
  rig on;
  client_options options = undeterred(on.server.url());
  options.bounds.exclusive_connections = 2;
  client redis{options};
  const exclusive_connection first = redis.exclusive();
  std::optional<exclusive_connection> second = redis.exclusive();
  const auto fault = failure_of([&] { static_cast<void>(redis.exclusive()); });
  CHECK(is(fault, errc::overloaded, execution::not_sent));
  CHECK(fault.text.find('2') != std::string::npos);
  second.reset();
  CHECK(redis.exclusive().execute("PING").str() == "PONG");
}

TEST_CASE("close ends an exclusive call that blocks, and later ones are refused") {
  const support::must_end limit;
  rig on;
  exclusive_connection own = on.redis.exclusive();
  auto popped = support::on_thread([&] {
    return outcome_of(own, command{"BLPOP", "jobs", 0}, {.timeout = no_timeout});
  });
  REQUIRE(on.has_blocked(1));
  on.redis.close(10ms);
  CHECK(is(popped.get(), errc::closed, execution::unknown));
  CHECK(on.has_blocked(0));
  CHECK(is(failure_of([&] { own.execute("PING"); }), errc::closed, execution::not_sent));
  CHECK(is(failure_of([&] { static_cast<void>(on.redis.exclusive()); }), errc::closed, execution::not_sent));
}

TEST_CASE("close closes exclusive connections that are idle, and those that were given back") {
  rig on;
  exclusive_connection held = on.redis.exclusive();
  const std::int64_t first = id_of(held);
  std::int64_t second = 0;
  {
    exclusive_connection own = on.redis.exclusive();
    second = id_of(own);
  }
  on.redis.close();
  CHECK(eventually([&] { return !on.connected(first) && !on.connected(second); }));
}

TEST_CASE("a connection moves with what is open on it, and an assignment gives the former one back") {
  rig on;
  exclusive_connection first = on.redis.exclusive();
  const std::int64_t first_id = id_of(first);
  exclusive_connection moved = std::move(first);
  CHECK(id_of(moved) == first_id);

  exclusive_connection second = on.redis.exclusive();
  const std::int64_t second_id = id_of(second);
  second.execute("MULTI");
  moved = std::move(second);
  exclusive_connection reused = on.redis.exclusive();
  CHECK(id_of(reused) == first_id);
  { const exclusive_connection ends = std::move(moved); }  // with the MULTI
  CHECK(eventually([&] { return !on.connected(second_id); }));
}

TEST_CASE("after a fork an exclusive connection is the parent's alone") {
  rig on;
  std::optional<exclusive_connection> own = on.redis.exclusive();
  const std::int64_t id = id_of(*own);
  own->execute("MULTI");
  const int told = support::in_child([&] {
    try {
      own->execute("EXEC");
      return 1;
    } catch (const connection_error& fault) {
      if (fault.code() != errc::forked || fault.execution() != execution::not_sent) return 2;
    }
    try {
      static_cast<void>(on.redis.exclusive());
      return 3;
    } catch (const connection_error& fault) {
      if (fault.code() != errc::forked || fault.execution() != execution::not_sent) return 4;
    }
    own.reset();
    return 0;
  });
  CHECK(told == 0);
  own->execute("SET", "k", 1);
  CHECK(own->execute("EXEC")[0].str() == "OK");
  CHECK(id_of(*own) == id);
}
