// Coroutines whose server or network fails.

#include "support/async_calls.hpp"
#include "support/fault_proxy.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <future>
#include <optional>
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
using support::fault_proxy;
using support::faults;
using support::flow;
using support::lane_of;
using support::reach;
using support::result_of;
using support::started;
using support::under_way;
using testing::redis_server;

constexpr faults held{.carries = faults::transport::holds};

bool is(const caught& how, errc code, execution what) { return how.code == code && how.execution == what; }

/// What coroutines were told about their INCRs.
struct tally {
  std::atomic<int> acknowledged = 0;
  std::atomic<int> unknown = 0;
  std::atomic<int> not_sent = 0;
  std::atomic<int> other = 0;

  void count(execution what) {
    if (what == execution::unknown) {
      ++unknown;
    } else if (what == execution::not_sent) {
      ++not_sent;
    } else {
      ++other;
    }
  }
};

task<void> increment(const caller& through, tally& told, std::atomic<bool>& go_on) {
  while (go_on) {
    try {
      co_await through.async_execute("INCR", "n");
      ++told.acknowledged;
    } catch (const error& fault) {
      told.count(fault.execution());
    }
  }
}

/// A server, a proxy before it, a client through the proxy, and one past it.
struct rig {
  rig() : proxy{server().port()}, redis{proxy.url()}, direct{server().unix_url()} {
    direct.execute("FLUSHALL");
    sync_wait(patient().async_execute("PING"));
  }
  static redis_server& server() {
    support::need_redis();
    static redis_server shared;
    return shared;
  }
  [[nodiscard]] caller patient(retry policy = retry::reads) const {
    return redis.with({.timeout = 60s, .retry = policy});
  }
  /// Loses the connection after the server has answered a call and before the reply passes.
  template <class T>
  under_way<T> interrupted(task<T> what) {
    sync_wait(patient().async_execute("PING"));  // so that it has a connection to lose
    proxy.apply(flow::to_client, held, reach::open);
    const auto before = proxy.taken(flow::to_client);
    auto call = started(std::move(what));
    REQUIRE(eventually([&] { return proxy.taken(flow::to_client) > before; }));
    proxy.reset();
    return call;
  }

  fault_proxy proxy;
  client redis;
  client direct;
};

}  // namespace

TEST_CASE("through crashes of the server, what coroutines are told of each INCR is true") {
  support::need_redis();
  redis_server server{{.arguments = {"--appendonly", "yes", "--appendfsync", "always"}}};
  client redis{server.url()};
  const caller patient = redis.with({.timeout = 60s});
  tally told;
  std::atomic<bool> go_on = true;
  std::vector<task<void>> counters;
  for (int i = 0; i < 16; ++i) counters.push_back(increment(patient, told, go_on));
  std::promise<void> ended;
  start(when_all(std::move(counters)),
        [&ended](std::exception_ptr fault) { fault ? ended.set_exception(std::move(fault)) : ended.set_value(); });
  auto over = ended.get_future();
  bool progress = true;
  for (int round = 0; round < 6 && progress; ++round) {
    const int before = told.acknowledged;
    progress = eventually([&] { return told.acknowledged > before + 200; });
    server.kill();
    server.start();
  }
  go_on = false;
  CHECK(progress);
  REQUIRE(over.wait_for(60s) == std::future_status::ready);
  const int total = std::stoi(redis.with({.timeout = 20s}).execute("GET", "n").str());
  CAPTURE(told.acknowledged.load(), told.unknown.load(), told.not_sent.load(), total);
  CHECK(told.other == 0);
  CHECK(told.unknown > 0);
  CHECK(total >= told.acknowledged);
  CHECK(total <= told.acknowledged + told.unknown);
}

TEST_CASE("through kills of its connection, each INCR of a coroutine ends once, with the truth") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  client killer{server.unix_url()};
  const caller patient = redis.with({.timeout = 60s});
  sync_wait(patient.async_execute("SET", "n", 0));
  tally told;
  std::deque<std::atomic<int>> ends(4000);
  std::atomic<int> ended = 0;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    start(patient.async_execute("INCR", "n"),
          [&told, &ended, &own = ends[i]](const std::exception_ptr& fault, const std::optional<reply>& value) {
            ++own;
            try {
              if (fault) std::rethrow_exception(fault);
              value ? ++told.acknowledged : ++told.other;
            } catch (const error& why) {
              told.count(why.execution());
            }
            ++ended;
          });
    if (i % 100 == 99) killer.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    if (i % 200 == 199) REQUIRE(eventually([&] { return ended == static_cast<int>(i) + 1; }));
  }
  for (const auto& each : ends) CHECK(each == 1);
  const int total = std::stoi(killer.execute("GET", "n").str());
  CAPTURE(told.acknowledged.load(), told.unknown.load(), told.not_sent.load(), total);
  CHECK(told.acknowledged + told.unknown + told.not_sent == 4000);
  CHECK(told.unknown > 0);
  CHECK(total >= told.acknowledged);
  CHECK(total <= told.acknowledged + told.unknown);
}

TEST_CASE("a reply that comes after its deadline never reaches another coroutine") {
  rig all;
  all.proxy.apply(flow::to_client, {.delay = 8ms});
  support::random_bytes random;
  int answered = 0;
  int late = 0;
  int wrong = 0;
  for (int batch = 0; batch < 20; ++batch) {
    std::vector<under_way<reply>> calls;
    for (int i = 0; i < 50; ++i) {
      const caller hurried = all.redis.with({.timeout = std::chrono::milliseconds{1 + random.below(30)}});
      calls.push_back(started(hurried.async_execute("ECHO", 50 * batch + i)));
    }
    for (int i = 0; i < 50; ++i) {
      try {
        if (result_of(calls[static_cast<std::size_t>(i)]).str() != std::to_string(50 * batch + i)) ++wrong;
        ++answered;
      } catch (const timeout_error&) {
        ++late;
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(answered > 0);
  CHECK(late > 0);
  CHECK(sync_wait(all.patient().async_execute("ECHO", "last")).str() == "last");
  const lane_metrics lane = lane_of(all.redis);
  CHECK(lane.connects == 1);
  CHECK(lane.late_replies > 0);
  CHECK(lane.late_replies == lane.tombstones);
}

TEST_CASE("commands and replies that come byte by byte are what they were") {
  rig all;
  all.proxy.apply({.segment = 1});
  const caller patient = all.patient();
  std::vector<under_way<reply>> calls;
  for (int i = 0; i < 200; ++i) calls.push_back(started(patient.async_execute("ECHO", i)));
  std::vector<command> several;
  for (int i = 0; i < 20; ++i) several.emplace_back("ECHO", std::string(static_cast<std::size_t>(i), 'v'));
  const std::vector<reply> replies = sync_wait(patient.async_execute_all(std::move(several)));
  for (std::size_t i = 0; i < 20; ++i) CHECK(replies[i].str() == std::string(i, 'v'));
  for (std::size_t i = 0; i < 200; ++i) CHECK(result_of(calls[i]).str() == std::to_string(i));
}

TEST_CASE("a coroutine's read that lost its connection is made again, unless its caller forbids it") {
  rig all;
  all.direct.execute("SET", "k", "v");
  auto repeated = all.interrupted(all.patient().async_execute("GET", "k"));
  CHECK(result_of(repeated).str() == "v");
  auto once = all.interrupted(all.patient(retry::never).async_execute("GET", "k"));
  CHECK(is(failure_of(once), errc::connection_lost, execution::unknown));
  CHECK(sync_wait(all.patient().async_execute("GET", "k")).str() == "v");
}

TEST_CASE("a coroutine's write that lost its connection is not made again, unless its caller says that it may") {
  rig all;
  auto once = all.interrupted(all.patient().async_execute("INCR", "n"));
  CHECK(is(failure_of(once), errc::connection_lost, execution::unknown));
  CHECK(all.direct.execute("GET", "n").str() == "1");
  auto twice = all.interrupted(all.patient(retry::idempotent).async_execute("INCR", "n"));
  CHECK(result_of(twice).integer() == 3);
  CHECK(all.direct.execute("GET", "n").str() == "3");
}

TEST_CASE("async_execute_all that lost its connection is made again when all of it only reads") {
  rig all;
  all.direct.execute("SET", "k", "v");
  auto reads = all.interrupted(all.patient().async_execute_all({command{"GET", "k"}, command{"EXISTS", "k"}}));
  CHECK(result_of(reads)[1].integer() == 1);
  auto mixed = all.interrupted(all.patient().async_execute_all({command{"GET", "k"}, command{"INCR", "n"}}));
  CHECK(is(failure_of(mixed), errc::connection_lost, execution::unknown));
  CHECK(all.direct.execute("GET", "n").str() == "1");
}

TEST_CASE("calls that were not written when the connection was lost go on the next one, in order") {
  rig all;
  client_options options = client_options::from_url(all.proxy.url());
  options.bounds.in_flight = 1;
  options.timeout = 60s;
  client redis{options};
  sync_wait(redis.async_execute("PING"));
  all.proxy.apply(flow::to_client, held, reach::open);
  const auto before = all.proxy.taken(flow::to_client);
  auto first = started(redis.async_execute("RPUSH", "list", "first"));
  std::vector<under_way<reply>> others;
  for (int i = 0; i < 50; ++i) others.push_back(started(redis.async_execute("RPUSH", "list", i)));
  REQUIRE(eventually([&] { return all.proxy.taken(flow::to_client) > before; }));
  all.proxy.reset();
  CHECK(is(failure_of(first), errc::connection_lost, execution::unknown));
  for (int i = 0; i < 50; ++i) CHECK(result_of(others[static_cast<std::size_t>(i)]).integer() == i + 2);
  CHECK(all.direct.execute("LINDEX", "list", -1).str() == "49");
}

TEST_CASE("a server that stops answering is found dead, and the coroutines' lane recovers when it goes on") {
  support::need_redis();
  redis_server server;
  client_options options = client_options::from_url(server.url());
  options.stall_limit = 200ms;
  options.connect_timeout = 200ms;
  client redis{options};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  CHECK(is(failure_of(redis.with({.timeout = 50ms}).async_execute("INCR", "n")), errc::timeout, execution::unknown));
  auto patient = started(redis.with({.timeout = 60s}).async_execute("ECHO", "patient"));
  CHECK(eventually([&] { return lane_of(redis).connection_losses == 1; }));
  server.resume();
  CHECK(result_of(patient).str() == "patient");
  CHECK(lane_of(redis).connects == 2);
}
