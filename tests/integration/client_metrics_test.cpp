// What a client counts.

#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/fault_proxy.hpp"
#include "support/redis_probe.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::eventually;
using support::failure_of;
using support::fault_proxy;
using support::faults;
using support::flow;
using support::reach;
using support::undeterred;
using testing::redis_server;

struct rig {
  [[nodiscard]] lane_metrics lane() const { return redis.metrics().lanes.at(0); }

  redis_server server = [] {
    support::need_redis();
    return redis_server{};
  }();
  fault_proxy proxy{server.port()};
  client redis{undeterred(proxy.url() + "?timeout=20s")};
};

}  // namespace

TEST_CASE("commands, replies, bytes and round trips are counted, without those of the handshake") {
  rig on;
  CHECK(on.lane().name == "blocking");
  CHECK(on.lane().connects == 0);
  for (int i = 0; i < 10; ++i) on.redis.execute("PING");
  on.redis.execute_all({command{"PING"}, command{"PING"}});
  const lane_metrics lane = on.lane();
  CHECK(lane.commands == 12);
  CHECK(lane.replies == 12);
  CHECK(lane.bytes_sent == 12 * command{"PING"}.bytes().size());
  CHECK(lane.bytes_received == 12 * std::string_view{"+PONG\r\n"}.size());
  CHECK(lane.writes == 11);
  CHECK(lane.reads >= 11);
  CHECK(lane.connects == 1);
  CHECK(lane.connection_losses == 0);
  CHECK(lane.round_trip.count == 11);
  CHECK(lane.round_trip.max > 0ns);
  CHECK(lane.round_trip.sum >= lane.round_trip.max);
  CHECK(lane.in_flight + lane.queued + lane.in_flight_bytes + lane.queued_bytes == 0);
  CHECK(lane.tombstones + lane.late_replies + lane.overloaded + lane.retries + lane.cancelled == 0);
}

TEST_CASE("a refused command and an error reply are counted as what they are") {
  rig on;
  CHECK(failure_of([&] { on.redis.execute("SELECT", 1); }).code == errc::refused_command);
  CHECK(on.lane().commands == 0);
  CHECK(failure_of([&] { on.redis.execute("NOSUCH"); }).code == errc::server);
  CHECK(on.lane().commands == 1);
  CHECK(on.lane().replies == 1);
}

TEST_CASE("a call that was given up leaves a tombstone until its reply comes late") {
  rig on;
  on.redis.execute("PING");
  on.proxy.apply(flow::to_client, {.carries = faults::transport::holds});
  const command one{"INCR", "n"};
  CHECK(failure_of([&] { on.redis.with({.timeout = 20ms}).execute(one); }).execution == execution::unknown);
  const lane_metrics before = on.lane();
  CHECK(before.tombstones == 1);
  CHECK(before.late_replies == 0);
  CHECK(before.in_flight == 1);
  CHECK(before.in_flight_bytes == one.bytes().size());
  on.proxy.heal();
  on.redis.execute("PING");
  const lane_metrics after = on.lane();
  CHECK(after.tombstones == 1);
  CHECK(after.late_replies == 1);
  CHECK(after.in_flight == 0);
  CHECK(after.in_flight_bytes == 0);
  CHECK(after.replies == 3);
}

TEST_CASE("connections that are lost and opened again are counted, and close is no loss") {
  rig on;
  on.redis.execute("PING");
  for (std::uint64_t i = 1; i <= 3; ++i) {
    on.proxy.reset();
    on.redis.execute("PING");
    CHECK(on.lane().connection_losses == i);
    CHECK(on.lane().connects == i + 1);
  }
  on.redis.close();
  CHECK(on.lane().connection_losses == 3);
}

TEST_CASE("the bulk lane is counted for itself") {
  rig on;
  on.redis.execute("PING");
  CHECK(on.redis.metrics().lanes.size() == 1);
  on.redis.with({.lane = lane_choice::bulk}).execute("PING");
  on.redis.execute("SET", "large", std::string(300U << 10U, 'x'));
  const client_metrics all = on.redis.metrics();
  REQUIRE(all.lanes.size() == 2);
  CHECK(all.lanes[0].commands == 1);
  CHECK(all.lanes[1].name == "blocking bulk");
  CHECK(all.lanes[1].commands == 2);
}

TEST_CASE("counters never fall while threads call") {
  rig on;
  std::atomic<int> running = 4;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) on.redis.execute("PING");
      --running;
    });
  }
  int wrong = 0;
  lane_metrics last = on.lane();
  while (running > 0) {
    const lane_metrics now = on.lane();
    if (now.commands < last.commands || now.replies < last.replies || now.bytes_sent < last.bytes_sent ||
        now.round_trip.count < last.round_trip.count || now.commands < now.replies) {
      ++wrong;
    }
    last = now;
    std::this_thread::yield();
  }
  threads.clear();
  CHECK(wrong == 0);
  CHECK(on.lane().commands == 2000);
  CHECK(on.lane().replies == 2000);
}

TEST_CASE("each deadline that passes is counted where it passed") {
  rig on;
  client_options options = undeterred(on.proxy.url() + "?timeout=20s");
  options.bounds.in_flight = 1;
  client redis{options};
  const auto times_out = [&] {
    static_cast<void>(failure_of([&] { redis.with({.timeout = 20ms}).execute("INCR", "n"); }));
    return redis.metrics().lanes.at(0);
  };
  redis.execute("PING");
  on.proxy.apply(flow::to_client, {.carries = faults::transport::holds});
  const lane_metrics unanswered = times_out();
  CHECK(unanswered.timeouts_unanswered == 1);
  const lane_metrics queued = times_out();
  CHECK(queued.timeouts_queued == 1);
  on.proxy.refuse();
  on.proxy.reset();
  CHECK(failure_of([&] { redis.with({.timeout = 20ms}).execute("PING"); }).code == errc::unreachable);
  const lane_metrics down = redis.metrics().lanes.at(0);
  CHECK(down.timeouts_connecting == 1);
  CHECK(down.timeouts_unanswered == 1);
  CHECK(down.timeouts_queued == 1);
}

TEST_CASE("calls that a stop token ended are counted") {
  rig on;
  std::stop_source stop;
  stop.request_stop();
  CHECK(failure_of([&] { on.redis.with({.stop = stop.get_token()}).execute("PING"); }).code == errc::cancelled);
  CHECK(on.lane().cancelled == 1);
}

TEST_CASE("commands that are written again are counted as retries") {
  rig on;
  on.redis.execute("PING");
  on.proxy.apply(flow::to_client, {.carries = faults::transport::holds}, reach::open);
  const auto before = on.proxy.taken(flow::to_client);
  auto got = support::on_thread([&] { return on.redis.execute("GET", "k").is_nil(); });
  const bool replied = eventually([&] { return on.proxy.taken(flow::to_client) > before; });
  on.proxy.reset();
  CHECK(got.get());
  CHECK(replied);
  CHECK(on.lane().retries == 1);
}

TEST_CASE("attempts to connect that fail are counted") {
  client redis{undeterred("redis://127.0.0.1:1")};
  CHECK(failure_of([&] { redis.with({.timeout = 100ms}).execute("PING"); }).code == errc::unreachable);
  const lane_metrics lane = redis.metrics().lanes.at(0);
  CHECK(lane.connect_failures >= 1);
  CHECK(lane.connects == 0);
  CHECK(lane.connection_losses == 0);
}
