// Consumers of a log that die, hang, lose answers, or lose their server.

#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/processes.hpp"
#include "support/redis_probe.hpp"
#include "support/sanitized.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::on_thread;

inline constexpr tn::channel_schema<"jobs:{tenant}"> jobs;
const tn::tenant_id acme{"acme"};
using number_log = tn::event_log<int>;
using number_work = tn::work<int>;
constexpr std::string_view stream = "log:{acme}:jobs";
constexpr int number_of_jobs = 400;

/// What happened in all processes.
struct tally {
  std::array<std::atomic<int>, number_of_jobs> handled{};
  std::atomic<int> running{0};
  std::atomic<int> let_go{0};
  std::atomic<bool> lost{false};
  std::atomic<bool> stop{false};

  [[nodiscard]] int different() const {
    int count = 0;
    for (const auto& each : handled) count += each > 0 ? 1 : 0;
    return count;
  }
  [[nodiscard]] int total() const {
    int count = 0;
    for (const auto& each : handled) count += each;
    return count;
  }
};

tn::client_options patient(const tn::testing::redis_server& server) {
  auto options = tn::client_options::from_url(server.url());
  options.timeout = 20s;
  return options;
}

/// Consumes until it is told to stop. The number that the process returns.
int consumes(const tn::client_options& where, const tally& shared, const tn::consume_options& how,
             const std::function<void(const number_work&)>& handle) {
  const tn::client redis{where};
  const number_log log{redis, jobs, {.timeout = 20s}};
  tn::subscriber sub{redis};
  auto worker = log.consume(sub, acme, "g", handle, how);
  std::jthread stopping{[&](const std::stop_token& over) {
    while (!shared.stop && !over.stop_requested()) std::this_thread::sleep_for(2ms);
    worker.stop();
  }};
  worker.run();
  return 0;
}

std::int64_t pending(const tn::client& redis) {
  if (redis.execute("EXISTS", stream).integer() == 0) return 0;
  const tn::reply groups = redis.execute("XINFO", "GROUPS", stream);
  return groups.elements().empty() ? 0 : redis.execute("XPENDING", stream, "g")[0].integer();
}

}  // namespace

TEST_CASE("whatever consumers are killed, each event is handled, and nobody handles twice what was settled") {
  support::need_redis();
  const tn::testing::redis_server server;
  const support::shared_memory<tally> shared;
  const auto handle = [&](const number_work& w) {
    std::this_thread::sleep_for(1ms);  // so that there is something to be killed in
    ++shared->handled[std::size_t(w.value)];
  };
  const tn::consume_options how{.batch = 8, .max_attempts = 1000, .claim_after = support::sanitized ? 1500ms : 500ms};
  const auto another = [&] {
    return support::process{[&] { return consumes(patient(server), *shared, how, handle); }};
  };
  std::vector<support::process> consumers;
  for (int i = 0; i < 3; ++i) consumers.push_back(another());
  const tn::client redis{patient(server)};
  const number_log log{redis, jobs, {.timeout = 20s}};
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::minstd_rand random{seed};
  int kills = 0;
  for (int i = 0; i < number_of_jobs; ++i) {
    log.append(acme, i);
    if (i % 40 != 39) continue;
    const std::size_t victim = random() % consumers.size();
    consumers[victim].kill();
    ++kills;
    consumers[victim] = another();
  }
  CHECK(eventually([&] { return shared->different() == number_of_jobs; }));
  CHECK(eventually([&] { return pending(redis) == 0; }));
  CHECK(log.dead_letters(acme, "g").empty());
  // Of each that was killed, one batch that was handled and not settled yet.
  CHECK(shared->total() <= number_of_jobs + kills * 8);
  shared->stop = true;
  for (auto& each : consumers) CHECK(each.result() == 0);
}

TEST_CASE("an event that kills whoever handles it becomes a dead letter, and the others are handled") {
  support::need_redis();
  const tn::testing::redis_server server;
  const support::shared_memory<tally> shared;
  const tn::consume_options how{.batch = 4, .max_attempts = 3, .claim_after = support::sanitized ? 1000ms : 200ms};
  const auto handle = [&](const number_work& w) {
    ++shared->handled[std::size_t(w.value)];
    if (w.value == 2) ::_exit(1);
  };
  std::vector<support::process> consumers;
  for (int i = 0; i < 8; ++i) {
    consumers.emplace_back([&] { return consumes(patient(server), *shared, how, handle); });
  }
  const tn::client redis{patient(server)};
  const number_log log{redis, jobs, {.timeout = 20s}};
  std::string poison;
  for (int i = 0; i < 10; ++i) {
    const std::string id = log.append(acme, i);
    if (i == 2) poison = id;
  }
  CHECK(eventually([&] { return log.dead_letters(acme, "g").size() == 1 && shared->different() == 10; }));
  CHECK(eventually([&] { return pending(redis) == 0; }));
  CHECK(shared->handled[2] == 3);
  const auto letters = log.dead_letters(acme, "g");
  REQUIRE(letters.size() == 1);
  CHECK(letters[0].id == poison);
  CHECK(letters[0].attempts == 3);
  shared->stop = true;
}

TEST_CASE("a consumer that stands still for long learns that it lost its events, and handles no more of them") {
  support::need_redis();
  const tn::testing::redis_server server;
  const support::shared_memory<tally> shared;
  constexpr int events = 300;  // so many that the handler may look in between when they are marked as lost
  const tn::consume_options how{.batch = events, .claim_after = support::sanitized ? 1500ms : 400ms};
  const auto stands_still = [&] {
    return consumes(patient(server), *shared, how, [&](const number_work& w) {
      shared->running = 1;
      if (w.value != 0) {
        ++shared->handled[std::size_t(w.value)];
        return;
      }
      (void)eventually([&] { return w.lost(); });
      shared->lost = w.lost();
    });
  };
  {
    const tn::client redis{patient(server)};
    const number_log log{redis, jobs, {.timeout = 20s}};
    for (int i = 0; i < events; ++i) log.append(acme, i);
  }
  support::process stands{stands_still};
  REQUIRE(eventually([&] { return shared->running == 1; }));
  REQUIRE(stands.pause());
  support::process other{[&] {
    return consumes(patient(server), *shared, how,
                    [&](const number_work& w) { ++shared->handled[std::size_t(w.value)]; });
  }};
  CHECK(eventually([&] { return shared->different() == events; }));
  stands.resume();
  CHECK(eventually([&] { return shared->lost.load(); }));
  shared->stop = true;
  CHECK(stands.result() == 0);
  CHECK(other.result() == 0);
  CHECK(shared->total() == events);
}

TEST_CASE("events whose answer was lost are handed out at once, and as the first attempt") {
  support::need_redis();
  const tn::testing::redis_server server;
  support::fault_proxy proxy{server.port()};
  const tn::client redis{patient(server)};
  const number_log log{redis, jobs, {.timeout = 20s}};
  const tn::client through{tn::client_options::from_url(proxy.url())};
  const number_log behind{through, jobs, {.timeout = 2s}};
  tn::subscriber sub{redis};  // is not cut
  std::atomic<int> handled{0};
  std::atomic<std::uint32_t> most{0};
  // Nothing is claimed within this test.
  auto worker = behind.consume(sub, acme, "g",
                               [&](const number_work& w) {
                                 most = std::max(most.load(), w.attempt());
                                 ++handled;
                               },
                               {.max_attempts = 1, .claim_after = 10min});
  auto ended = on_thread([&] { worker.run(); });
  log.append(acme, 0);
  REQUIRE(eventually([&] { return handled == 1 && pending(redis) == 0; }));
  for (int i = 1; i <= 5; ++i) {
    // The answer that brings it is cut, after some of its bytes.
    proxy.apply(support::flow::to_client, {.cut_after = std::size_t(i - 1)}, support::reach::open);
    log.append(acme, i);
    CHECK(eventually([&] { return handled == i + 1 && pending(redis) == 0; }));
  }
  CHECK(most == 1);
  worker.stop();
  ended.get();
  CHECK(worker.counters().handled == 6);
  CHECK(log.dead_letters(acme, "g").empty());
}

TEST_CASE("what a lost answer gave is given back by a consumer that stops, and is no attempt") {
  support::need_redis();
  const tn::testing::redis_server server;
  support::fault_proxy proxy{server.port()};
  const tn::client redis{patient(server)};
  const number_log log{redis, jobs, {.timeout = 20s}};
  const tn::client through{tn::client_options::from_url(proxy.url())};
  const number_log behind{through, jobs, {.timeout = 2s}};
  tn::subscriber sub{redis};  // is not cut
  // What nobody is known to have handled would be a dead letter at once.
  const tn::consume_options how{.max_attempts = 1, .claim_after = 1s};
  std::atomic<int> handled{0};
  auto first = behind.consume(
      sub, acme, "g", [&](const number_work&) { ++handled; }, how);
  const bool coroutine = GENERATE(false, true);
  auto ended = on_thread([&] { coroutine ? tn::sync_wait(first.async_run()) : first.run(); });
  // It has asked once, and has the answer.
  CHECK(eventually([&] {
    const auto lanes = through.metrics().lanes;
    return redis.execute("INFO", "commandstats").str().find("cmdstat_hmget:") != std::string::npos &&
           std::ranges::all_of(lanes, [](const auto& lane) { return lane.in_flight == 0; });
  }));
  proxy.apply(support::flow::to_client, {.carries = support::faults::transport::swallows}, support::reach::open);
  log.append(acme, 1);
  CHECK(eventually([&] { return pending(redis) == 1; }));
  first.stop();
  ended.get();
  CHECK(handled == 0);
  auto second = log.consume(
      sub, acme, "g", [&](const number_work&) { ++handled; }, how);
  auto second_ended = on_thread([&] { second.run(); });
  CHECK(eventually([&] { return pending(redis) == 0; }));
  second.stop();
  second_ended.get();
  CHECK(handled == 1);
  CHECK(log.dead_letters(acme, "g").empty());
}

TEST_CASE("what waits for its next attempt is attempted in time, also where an answer was lost meanwhile") {
  support::need_redis();
  const tn::testing::redis_server server;
  support::fault_proxy proxy{server.port()};
  const tn::client redis{patient(server)};
  const number_log log{redis, jobs, {.timeout = 20s}};
  const tn::client through{tn::client_options::from_url(proxy.url())};
  const number_log behind{through, jobs, {.timeout = 2s}};
  tn::subscriber sub{redis};  // is not cut
  std::atomic<int> attempts{0};
  std::atomic<int> others{0};
  auto worker = behind.consume(sub, acme, "g",
                               [&](const number_work& w) {
                                 if (w.value != 0) {
                                   ++others;
                                 } else if (++attempts == 1) {
                                   throw std::runtime_error{"not yet"};
                                 }
                               },
                               // Renewed as what is handled, it would never be due.
                               {.batch = 1, .retry_after = 1500ms, .claim_after = 3s});
  auto ended = on_thread([&] { worker.run(); });
  log.append(acme, 0);
  REQUIRE(eventually([&] { return attempts == 1; }));
  proxy.apply(support::flow::to_client, {.cut_after = 1}, support::reach::open);
  log.append(acme, 1);
  CHECK(eventually([&] { return others == 1 && attempts == 2; }));
  CHECK(eventually([&] { return pending(redis) == 0; }));
  worker.stop();
  ended.get();
  CHECK(worker.counters().handled == 2);
}

TEST_CASE("a consumer outlives its server, and goes on where it was") {
  support::need_redis();
  tn::testing::redis_server server{{.arguments = {"--appendonly", "yes", "--appendfsync", "always"}}};
  const tn::client redis{patient(server)};
  const number_log log{redis, jobs, {.timeout = 500ms}};
  tn::subscriber sub{redis, {.heartbeat = 200ms, .heartbeat_timeout = 500ms}};
  std::atomic<int> handled{0};
  std::atomic<int> last{-1};
  auto worker = log.consume(sub, acme, "g",
                            [&](const number_work& w) {
                              last = w.value;
                              ++handled;
                            },
                            {.claim_after = 2s});
  auto ended = on_thread([&] { worker.run(); });
  const auto appended = [&](int what) {
    return eventually([&] {
      try {
        log.append_once(acme, what, std::to_string(what));
        return true;
      } catch (const tn::error&) {
        return false;
      }
    });
  };
  REQUIRE(appended(1));
  REQUIRE(eventually([&] { return last == 1 && pending(redis) == 0; }));
  server.kill();
  server.start();
  REQUIRE(appended(2));
  CHECK(eventually([&] { return last == 2; }));
  server.pause();
  CHECK_THROWS_AS(log.append(acme, 99), tn::error);
  server.resume();
  REQUIRE(appended(3));
  CHECK(eventually([&] { return last == 3; }));
  redis.execute("CLIENT", "KILL", "TYPE", "pubsub");
  REQUIRE(appended(4));
  CHECK(eventually([&] { return last == 4; }));
  worker.stop();
  ended.get();
}

TEST_CASE("a consumer that is not allowed to consume any more says so") {
  support::need_redis();
  const tn::testing::redis_server server;
  const tn::client admin{server.url()};
  admin.execute("ACL", "SETUSER", "limited", "on", ">secret", "+@all", "~*", "&*");
  auto options = patient(server);
  options.username = "limited";
  options.password = "secret";
  const tn::client redis{options};
  const number_log log{redis, jobs, {.timeout = 20s}};
  tn::subscriber sub{redis};
  std::atomic<int> handled{0};
  auto worker = log.consume(sub, acme, "g", [&](const number_work&) { ++handled; });
  auto ended = on_thread([&] { worker.run(); });
  log.append(acme, 1);
  REQUIRE(eventually([&] { return handled == 1 && pending(admin) == 0; }));
  SECTION("the key") {
    admin.execute("ACL", "SETUSER", "limited", "resetkeys");
    admin.execute("PUBLISH", stream, "x");
  }
  SECTION("the channel") { admin.execute("ACL", "SETUSER", "limited", "resetchannels"); }
  try {
    ended.get();
    FAIL("it ended as if it had been told to");
  } catch (const tn::server_error& why) {
    CHECK(why.code() == tn::errc::no_permission);
  }
}
