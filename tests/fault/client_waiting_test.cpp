// How the threads that share a connection wait: on a socket that is full, and for each other.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::on_thread;
using support::peer;
using support::scripted_server;
using testing::redis_server;

/// More than the sockets of both sides hold.
std::string large_value() { return std::string(24U << 20U, 'x'); }

/// Until the writer of the bulk lane waits for room in the socket. Where it is only slow, a test shows less than it
/// could.
void wait_for_full_socket(const client& redis) {
  REQUIRE(support::eventually([&] {
    const std::uint64_t before = support::lane_of(redis, "blocking bulk").bytes_sent;
    std::this_thread::sleep_for(50ms);
    return before > (1U << 16U) && support::lane_of(redis, "blocking bulk").bytes_sent == before;
  }));
}

std::chrono::nanoseconds processor_time_of_this_thread() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

}  // namespace

TEST_CASE("a writer that waits for room in the socket reads when the thread that read for it has gone") {
  const support::must_end ends;
  const std::string large = large_value();
  support::gate first_came;
  support::gate stuck;
  support::gate reader_left;
  const scripted_server server{[&](peer& client, int) {
    if (!client.greet() || client.command() != "GET first") return;
    first_came.open();
    if (!stuck.wait()) return;
    client.send("+FIRST\r\n");
    if (!reader_left.wait()) return;
    // From here on it takes nothing before its reply is taken.
    if (!client.send("$" + std::to_string(large.size()) + "\r\n" + large + "\r\n")) return;
    if (client.command() == "GET second" && client.command().starts_with("SET large ")) client.send("+OK\r\n");
    client.wait_for_end();
  }};
  client redis{server.url() + "?timeout=10min"};
  const auto bulk = redis.with({.lane = lane_choice::bulk});
  auto reads = on_thread([&] { return bulk.execute("GET", "first").str(); });
  REQUIRE(first_came.wait());
  auto writes = on_thread([&] { return bulk.execute_all({command{"GET", "second"}, command{"SET", "large", large}}); });
  wait_for_full_socket(redis);
  stuck.open();
  CHECK(reads.get() == "FIRST");
  reader_left.open();
  const std::vector<reply> replies = writes.get();
  CHECK((replies[0].str() == large));  // in parentheses: nobody wants to read it
  CHECK(replies[1].str() == "OK");
}

TEST_CASE("a writer whose reply has come does not wait for room in the socket for others") {
  const support::must_end ends;
  const std::string large = large_value();
  support::gate read_came;
  support::gate both_wait;
  support::gate stuck;
  support::gate writer_left;
  const scripted_server server{[&](peer& client, int) {
    if (!client.greet() || client.command() != "GET first") return;
    read_came.open();
    if (!both_wait.wait() || !client.command().starts_with("SET second ")) return;
    if (!stuck.wait()) return;
    client.send("+FIRST\r\n+SECOND\r\n");
    // Meanwhile nobody takes bytes from the socket.
    if (writer_left.wait() && client.command().starts_with("SET third ")) client.send("+THIRD\r\n");
    client.wait_for_end();
  }};
  client redis{server.url() + "?timeout=10min"};
  const auto bulk = redis.with({.lane = lane_choice::bulk});
  auto reads = on_thread([&] { return bulk.execute("GET", "first").str(); });
  REQUIRE(read_came.wait());
  auto writes = on_thread([&] { return bulk.execute("SET", "second", large).str(); });
  wait_for_full_socket(redis);
  auto waits = on_thread([&] { return bulk.execute("SET", "third", large).str(); });
  REQUIRE(support::eventually([&] { return support::lane_of(redis, "blocking bulk").commands == 3; }));
  both_wait.open();
  REQUIRE(
      support::eventually([&] { return support::lane_of(redis, "blocking bulk").bytes_sent > large.size() + 100; }));
  wait_for_full_socket(redis);
  stuck.open();
  CHECK(reads.get() == "FIRST");
  CHECK(writes.get() == "SECOND");
  writer_left.open();
  CHECK(waits.get() == "THIRD");
}

TEST_CASE("a thread that waits for another one to read for it takes no processor time") {
  support::need_redis();
  const support::must_end ends;
  redis_server server;
  client redis{server.url() + "?timeout=20s"};
  {
    std::vector<std::jthread> threads;  // after which all that threads sleep on has been used before
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 200; ++i) redis.execute("PING");
      });
    }
  }
  server.pause();
  auto reads = on_thread([&] { return redis.execute("PING").str(); });
  REQUIRE(support::eventually([&] { return redis.metrics().lanes.front().in_flight == 1; }));
  const auto before = processor_time_of_this_thread();
  CHECK(support::failure_of([&] { redis.with({.timeout = 1s}).execute("PING"); }).code == errc::timeout);
  CHECK(processor_time_of_this_thread() - before < 50ms);
  server.resume();
  CHECK(reads.get() == "PONG");
}
