// A client and a real server, with a network between them that misbehaves.

#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/fault_proxy.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/command.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
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
using support::reach;
using support::undeterred;

constexpr faults held{.carries = faults::transport::holds};
constexpr faults swallowed{.carries = faults::transport::swallows};
const call_options patient{.timeout = 30s};

/// A server, a proxy before it, a client through the proxy, and one past it.
struct rig {
  rig() : proxy{server().port()}, redis{undeterred(proxy.url())}, direct{server().unix_url()} {
    direct.with(patient).execute("FLUSHALL");
    redis.with(patient).execute("PING");
  }
  static testing::redis_server& server() {
    support::need_redis();
    static testing::redis_server shared;
    return shared;
  }

  /// How the next INCR of "n" fails, when `harm` is done after the server has run it and before its reply passes.
  template <class Harm>
  caught incr_meets(Harm harm) {
    proxy.apply(flow::to_client, held, reach::open);
    const auto before = proxy.taken(flow::to_client);
    auto failed = support::on_thread([this] { return outcome_of_incr(); });
    const bool replied = eventually([&] { return proxy.taken(flow::to_client) > before; });
    harm();
    const caught how = failed.get();
    REQUIRE(replied);
    return how;
  }
  /// For another thread than the test's: it asserts nothing. The text is empty where nothing failed.
  [[nodiscard]] caught outcome_of_incr() const {
    try {
      redis.with(patient).execute("INCR", "n");
    } catch (const error& fault) {
      return {fault.code(), fault.execution(), fault.what()};
    }
    return {};
  }
  [[nodiscard]] std::int64_t count() const { return direct.with(patient).execute("INCRBY", "n", 0).integer(); }
  /// The next call works, without help.
  [[nodiscard]] bool works() const { return redis.with(patient).execute("SET", "works", "yes").str() == "OK"; }

  fault_proxy proxy;
  client redis;
  client direct;
};

bool is_unknown(const caught& how, errc code) { return how.code == code && how.execution == execution::unknown; }

/// What a client was told about its INCRs, from several threads.
struct tally {
  std::atomic<int> acknowledged = 0;
  std::atomic<int> unknown = 0;
  std::atomic<int> not_sent = 0;
  std::atomic<int> other = 0;

  void incr(const caller& through) {
    try {
      through.execute("INCR", "n");
      ++acknowledged;
    } catch (const error& fault) {
      switch (fault.execution()) {
        case execution::unknown:
          ++unknown;
          break;
        case execution::not_sent:
          ++not_sent;
          break;
        default:
          ++other;
          break;
      }
    }
  }
};

std::vector<command> one_of_each(const std::string& bytes) {
  return {command{"SET", "k", bytes},
          command{"GET", "k"},
          command{"SET", "k", "short", "GET"},
          command{"INCR", "counter"},
          command{"DECRBY", "counter", 100},
          command{"GET", "nothing"},
          command{"LPUSH", "k", "x"},
          command{"RPUSH", "list", "a", "", "c"},
          command{"LRANGE", "list", 0, -1},
          command{"EVAL", "return {1, {'two', {3, false}}, {}, redis.status_reply('fine')}", 0},
          command{"ECHO", ""},
          command{"DEL", "k", "counter", "list"}};
}

}  // namespace

TEST_CASE("cut into single bytes both ways, every reply is what it is without a proxy") {
  rig over;
  support::random_bytes random;
  over.proxy.apply({.segment = 1});
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{5000}, std::size_t{40'000}}) {
    const auto commands = one_of_each(random.bytes(size));
    const auto expected = over.direct.with(patient).execute_all(commands);
    CHECK(over.redis.with(patient).execute_all(commands) == expected);
  }
}

TEST_CASE("16 MiB in small segments both ways arrive as they are") {
  rig over;
  support::random_bytes random;
  // Not single bytes: the kernel takes 3 us for each of them.
  over.proxy.apply({.segment = 64});
  const std::string large = random.bytes(std::size_t{16} << 20U);
  const auto slow = over.redis.with({.timeout = 100s});
  REQUIRE(slow.execute("SET", "large", large).str() == "OK");
  CHECK((over.direct.with(patient).execute("GET", "large").str() == large));
  CHECK((slow.execute("GET", "large").str() == large));
}

TEST_CASE("a cut inside a bulk leaves the write unknown, and the next call works") {
  rig over;
  over.direct.execute("SET", "k", std::string(100'000, 'x'));
  over.proxy.apply(flow::to_client, {.cut_after = 50'000}, reach::open);
  const auto fault = failure_of([&] { over.redis.with(patient).execute("SET", "k", "new", "GET"); });
  CHECK(is_unknown(fault, errc::connection_lost));
  CHECK(over.works());
  CHECK(over.direct.execute("GET", "k").str() == "new");
  CHECK(over.proxy.connections() >= 2);
}

TEST_CASE("a cut inside a command leaves it unknown, and it did not run") {
  rig over;
  over.proxy.apply(flow::to_server, {.cut_after = 20}, reach::open);
  const auto fault = failure_of([&] { over.redis.with(patient).execute("INCR", "n"); });
  CHECK(is_unknown(fault, errc::connection_lost));
  CHECK(over.works());
  CHECK(over.count() == 0);
}

TEST_CASE("a reset leaves the write unknown, and the next call works") {
  rig over;
  CHECK(is_unknown(over.incr_meets([&] { over.proxy.reset(); }), errc::connection_lost));
  over.proxy.heal();
  CHECK(over.works());
  CHECK(over.count() == 1);
}

TEST_CASE("an end from the server's side while a call waits is noticed at once") {
  rig over;
  CHECK(is_unknown(over.incr_meets([&] { over.proxy.half_close(flow::to_client); }), errc::connection_lost));
  over.proxy.heal();
  CHECK(over.works());
  CHECK(over.count() == 1);
}

TEST_CASE("an end from the server's side between calls costs at most one call") {
  rig over;
  over.proxy.half_close(flow::to_client);
  tally told;
  told.incr(over.redis.with(patient));
  CHECK(told.acknowledged + told.unknown + told.not_sent == 1);
  CHECK(over.works());
  CHECK(over.proxy.connections() >= 2);
}

TEST_CASE("a black hole costs each call its own deadline, and leaves it unknown") {
  rig over;
  for (const flow direction : {flow::to_server, flow::to_client}) {
    over.proxy.apply(direction, swallowed);
    for (int i = 0; i < 3; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const auto fault = failure_of([&] { over.redis.with({.timeout = 50ms}).execute("INCR", "n"); });
      CHECK(std::chrono::steady_clock::now() - begin >= 50ms);
      CHECK(fault.code == errc::timeout);
      if (i == 0) CHECK(fault.execution == execution::unknown);  // a later one may be on a new connection
    }
    over.proxy.heal();
    over.proxy.reset();
    CHECK(eventually([&] {
      try {
        return over.works();
      } catch (const error&) {  // the call that met the reset
        return false;
      }
    }));
  }
}

TEST_CASE("a black hole for new connections ends calls at their deadline, unsent") {
  rig over;
  over.proxy.apply(swallowed, reach::future);
  client fresh{over.proxy.url()};
  const auto fault = failure_of([&] { fresh.with({.timeout = 50ms}).execute("INCR", "n"); });
  CHECK(fault.code == errc::timeout);
  CHECK(fault.execution == execution::not_sent);
  over.proxy.heal();
  CHECK(fresh.with(patient).execute("INCR", "n").integer() == 1);
}

TEST_CASE("replies that are held beyond the deadline reach nobody else when they come") {
  rig over;
  over.direct.execute("SET", "mine", "mine");
  for (int i = 0; i < 20; ++i) {
    const std::string late = "late" + std::to_string(i);
    over.direct.execute("SET", late, late);
    over.proxy.apply(flow::to_client, held);
    const auto fault = failure_of([&] { over.redis.with({.timeout = 10ms}).execute("SET", late, "x", "GET"); });
    CHECK(is_unknown(fault, errc::timeout));
    over.proxy.heal();
    CHECK(over.redis.with(patient).execute("GET", "mine").str() == "mine");
  }
}

TEST_CASE("a reply that is slower than its deadline is not given to the next call") {
  rig over;
  over.direct.execute("SET", "late", "late");
  over.direct.execute("SET", "mine", "mine");
  over.proxy.apply(flow::to_client, {.delay = 100ms});
  const auto fault = failure_of([&] { over.redis.with({.timeout = 10ms}).execute("SET", "late", "x", "GET"); });
  CHECK(is_unknown(fault, errc::timeout));
  CHECK(over.redis.with(patient).execute("GET", "mine").str() == "mine");
}

TEST_CASE("through a thousand random deadlines and delays every reply is the caller's own") {
  rig over;
  support::random_bytes random;
  std::atomic<int> wrong = 0;
  std::atomic<int> answered = 0;
  std::atomic<int> late = 0;
  std::atomic<int> running = 4;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t, seed = random.below(1U << 30U)] {
        std::mt19937_64 own_random{seed};  // not support::random_bytes: Catch2's messages belong to one thread
        for (int i = 0; i < 250; ++i) {
          const std::string own = std::to_string(t) + "/" + std::to_string(i);
          try {
            const auto hurried = over.redis.with({.timeout = std::chrono::milliseconds{1 + own_random() % 5}});
            if (hurried.execute("ECHO", own).str() != own) ++wrong;
            ++answered;
          } catch (const timeout_error&) {
            ++late;
          } catch (const error&) {
            ++wrong;
          }
        }
        --running;
      });
    }
    while (running > 0) {
      const std::chrono::milliseconds delay{random.below(6)};
      over.proxy.apply(flow::to_client, {.delay = delay, .segment = 1 + random.below(8)});
      std::this_thread::sleep_for(2ms);  // paces the changes, nothing waits for it
    }
  }
  over.proxy.heal();
  CHECK(wrong == 0);
  CHECK(answered + late == 1000);
  CHECK(late > 0);
  CHECK(over.redis.with(patient).execute("ECHO", "last").str() == "last");
}

TEST_CASE("through every fault in turn, what a client says of each INCR is true") {
  rig over;
  support::random_bytes random;
  tally told;
  std::atomic<int> calls = 0;
  std::atomic<bool> over_now = false;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        while (!over_now) {
          told.incr(over.redis.with({.timeout = 20ms}));
          ++calls;
        }
      });
    }
    for (int round = 0; round < 200; ++round) {
      const flow direction = random.below(2) == 0 ? flow::to_server : flow::to_client;
      switch (random.below(6)) {
        case 0:
          over.proxy.apply(direction, {.cut_after = random.below(200)}, reach::open);
          break;
        case 1:
          over.proxy.reset();
          break;
        case 2:
          over.proxy.half_close(direction);
          break;
        case 3:
          over.proxy.apply(direction, {.delay = 5ms, .segment = 1});
          break;
        case 4:
          over.proxy.apply(direction, held);
          break;
        default:
          over.proxy.refuse();
          break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds{random.below(4)});  // paces the faults
      over.proxy.heal();
      std::this_thread::sleep_for(std::chrono::milliseconds{random.below(4)});
    }
    over_now = true;
  }
  // What is still on its way has to be over before the total counts.
  over.proxy.refuse();
  over.proxy.reset();
  REQUIRE(eventually([&] { return over.proxy.open() == 0; }));
  REQUIRE(eventually([&] {  // the server has let go of all but those past the proxy, which come by its Unix socket
    const std::string clients = over.direct.with(patient).execute("CLIENT", "LIST").str();
    return clients.find("addr=127.0.0.1:") == std::string::npos;
  }));
  const std::int64_t total = over.count();
  CAPTURE(told.acknowledged.load(), told.unknown.load(), told.not_sent.load(), total);
  CHECK(told.other == 0);
  CHECK(told.acknowledged + told.unknown + told.not_sent == calls);
  CHECK(told.acknowledged > 0);
  CHECK(told.unknown > 0);
  CHECK(total >= told.acknowledged);
  CHECK(total <= told.acknowledged + told.unknown);
}
