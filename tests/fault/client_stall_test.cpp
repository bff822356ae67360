// A server that is there and does not answer, and one that is killed again and again.

#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <random>
#include <span>
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
using support::peer;
using support::scripted_server;
using support::undeterred;
using testing::redis_server;

redis_server running_server(std::vector<std::string> arguments = {}) {
  support::need_redis();
  return redis_server{{.arguments = std::move(arguments)}};
}

client_options with_stall_limit(const std::string& url, std::chrono::milliseconds limit) {
  client_options options = undeterred(url + "?timeout=30s");
  options.stall_limit = limit;
  return options;
}

bool has_no_tcp_client(const client& direct) {
  return eventually(
      [&] { return direct.execute("CLIENT", "LIST").str().find("addr=127.0.0.1:") == std::string::npos; });
}

/// What a caller was told of one command.
enum class told : unsigned char { nothing, acknowledged, unknown, did_not_run };

told outcome_of(const caller& through, const command& one) {
  try {
    through.execute(one);
    return told::acknowledged;
  } catch (const error& fault) {
    switch (fault.execution()) {
      case execution::unknown:
        return told::unknown;
      case execution::not_sent:
      case execution::rejected:
        return told::did_not_run;
      case execution::executed:
        break;
    }
    return told::nothing;
  }
}

/// Lets the threads of a test end, also when an assertion does.
class ends_at_end_of_scope {
 public:
  explicit ends_at_end_of_scope(std::atomic<bool>& over) : over_{&over} {}
  ends_at_end_of_scope(const ends_at_end_of_scope&) = delete;
  ends_at_end_of_scope& operator=(const ends_at_end_of_scope&) = delete;
  ~ends_at_end_of_scope() { *over_ = true; }

 private:
  std::atomic<bool>* over_;
};

/// What one thread did: increments of a shared number, and a key of its own for each other call.
struct diary {
  std::array<std::size_t, 4> incrs{};
  std::vector<told> sets;
};

}  // namespace

TEST_CASE("a frozen server is found out by a call that comes later, and works again when it thaws") {
  const support::must_end limit;
  redis_server server = running_server();
  client redis{with_stall_limit(server.url(), 200ms)};
  redis.execute("PING");
  server.pause();
  const auto first = failure_of([&] { redis.with({.timeout = 20ms}).execute("INCR", "n"); });
  CHECK(first.code == errc::timeout);
  CHECK(first.execution == execution::unknown);

  const auto begin = std::chrono::steady_clock::now();
  const auto later = failure_of([&] { redis.execute("INCR", "n"); });
  CHECK(std::chrono::steady_clock::now() - begin < 10 * 200ms);
  CHECK(later.code == errc::connection_lost);
  CHECK(later.execution == execution::unknown);
  CHECK(later.text.find("200 ms") != std::string::npos);

  // The kernel takes connections for it, but there is no handshake.
  const auto connecting = failure_of([&] { redis.with({.timeout = 20ms}).execute("INCR", "n"); });
  CHECK(connecting.execution == execution::not_sent);
  server.resume();
  CHECK(redis.execute("PING").str() == "PONG");
  CHECK(redis.execute("INCRBY", "n", 0).integer() <= 2);
}

TEST_CASE("a stall ends every call that was written, and a read among them is answered after the thaw") {
  const support::must_end limit;
  redis_server server = running_server();
  client redis{with_stall_limit(server.url(), 200ms)};
  redis.execute("SET", "k", "v");
  server.pause();
  CHECK(failure_of([&] { redis.with({.timeout = 20ms}).execute("PING"); }).code == errc::timeout);
  auto read = support::on_thread([&] { return redis.execute("GET", "k").str(); });
  std::array<told, 4> writes{};
  {
    std::vector<std::jthread> threads;
    for (told& each : writes) {
      threads.emplace_back([&] { each = outcome_of(redis.with({.timeout = 10s}), command{"INCR", "n"}); });
    }
    // All are over before the server answers again: written before the stall was found, or not at all.
    REQUIRE(eventually([&] { return redis.metrics().lanes.at(0).connection_losses == 1; }));
    server.resume();
  }
  CHECK(read.get() == "v");
  for (const told each : writes) CHECK(each != told::nothing);
  client direct{server.unix_url()};
  const auto total = direct.execute("INCRBY", "n", 0).integer();
  CHECK(total >= std::ranges::count(writes, told::acknowledged));
  CHECK(total <= 4 - std::ranges::count(writes, told::did_not_run));
}

TEST_CASE("a reply that comes slowly is no stall") {
  const support::must_end limit;
  scripted_server server{[](peer& client, int number) {
    if (!client.greet() || number > 0) return;
    client.command();
    client.send("$40\r\n");
    for (int i = 0; i < 40; ++i) {
      std::this_thread::sleep_for(50ms);  // twice the stall limit in all
      client.send("x");
    }
    client.send("\r\n+MINE\r\n");
    client.wait_for_end();
  }};
  client redis{with_stall_limit(server.url(), 1s)};
  CHECK(failure_of([&] { redis.with({.timeout = 20ms}).execute("GET", "slow"); }).code == errc::timeout);
  CHECK(redis.execute("GET", "mine").str() == "MINE");
  CHECK(server.connections() == 1);
}

TEST_CASE("a command that blocks on the server is no stall") {
  const support::must_end limit;
  const redis_server server = running_server();
  client redis{with_stall_limit(server.url(), 50ms)};
  exclusive_connection own = redis.exclusive();
  CHECK(own.execute_for(30s, "BLPOP", "jobs", 1).is_nil());
  CHECK(own.execute_for(no_timeout, "BLPOP", "jobs", 1).is_nil());
  CHECK(own.execute("PING").str() == "PONG");
}

TEST_CASE("through twenty kills and starts of the server, what a client says of each command is true") {
  const support::must_end limit{110s};
  redis_server server = running_server({"--appendonly", "yes", "--appendfsync", "no"});
  support::random_bytes random;
  client redis{undeterred(server.url())};
  std::vector<diary> diaries(8);
  std::atomic<bool> over = false;
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < diaries.size(); ++t) {
      threads.emplace_back([&, t, seed = random.below(1U << 30U)] {
        std::mt19937_64 own_random{seed};  // not support::random_bytes: Catch2's messages belong to one thread
        diary& mine = diaries[t];
        while (!over) {
          const auto hurried = redis.with({.timeout = std::chrono::milliseconds{1 + own_random() % 100}});
          ++mine.incrs.at(static_cast<std::size_t>(outcome_of(hurried, command{"INCR", "n"})));
          const std::string own = std::to_string(t) + "/" + std::to_string(mine.sets.size());
          mine.sets.push_back(outcome_of(hurried, command{"SET", own, 1}));
        }
      });
    }
    const ends_at_end_of_scope whatever_happens{over};
    for (int round = 0; round < 20; ++round) {
      std::this_thread::sleep_for(std::chrono::milliseconds{10 + random.below(40)});  // paces the kills
      server.kill();
      std::this_thread::sleep_for(std::chrono::milliseconds{random.below(40)});
      server.start();
    }
    REQUIRE(eventually([&] {
      try {
        return redis.execute("PING").str() == "PONG";
      } catch (const error&) {
        return false;
      }
    }));
  }
  redis.close(0ms);
  client direct{server.unix_url() + "?timeout=30s"};
  REQUIRE(has_no_tcp_client(direct));  // nothing is on its way any more

  std::array<std::size_t, 4> incrs{};
  std::size_t lost = 0;
  std::size_t ran_all_the_same = 0;
  std::array<std::size_t, 4> sets{};
  for (std::size_t t = 0; t < diaries.size(); ++t) {
    for (std::size_t i = 0; i < incrs.size(); ++i) incrs.at(i) += diaries[t].incrs.at(i);
    std::vector<command> questions;
    for (std::size_t i = 0; i < diaries[t].sets.size(); ++i) {
      questions.emplace_back("EXISTS", std::to_string(t) + "/" + std::to_string(i));
    }
    std::vector<reply> answers;
    for (std::size_t from = 0; from < questions.size(); from += 1000) {
      const auto part = std::span{questions}.subspan(from, std::min<std::size_t>(1000, questions.size() - from));
      for (reply& each : direct.execute_all(part)) answers.push_back(std::move(each));
    }
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const told what = diaries[t].sets[i];
      ++sets.at(static_cast<std::size_t>(what));
      const bool exists = answers[i].integer() == 1;
      if (what == told::acknowledged && !exists) ++lost;
      if (what == told::did_not_run && exists) ++ran_all_the_same;
    }
  }
  const auto number = [](const std::array<std::size_t, 4>& of, told what) {
    return of.at(static_cast<std::size_t>(what));
  };
  const auto total = static_cast<std::size_t>(direct.execute("INCRBY", "n", 0).integer());
  CAPTURE(incrs, sets, total);
  CHECK(number(incrs, told::nothing) + number(sets, told::nothing) == 0);
  CHECK(total >= number(incrs, told::acknowledged));
  CHECK(total <= number(incrs, told::acknowledged) + number(incrs, told::unknown));
  CHECK(lost == 0);
  CHECK(ran_all_the_same == 0);
  for (const told each : {told::acknowledged, told::unknown, told::did_not_run}) CHECK(number(sets, each) > 0);
}
