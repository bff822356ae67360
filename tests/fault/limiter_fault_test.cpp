// Rate limiters while the server stops, loses replies, restarts, or is replaced by its replica.

#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/limiter_rig.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::asks_always;
using support::fault_proxy;
using support::flow;
using support::lasting;
using tn::decision_source;
using tn::limit_kind;
using clock = std::chrono::steady_clock;

const std::string path = "/api/kpi";

/// A server and a client that sees it as it is.
struct direct {
  explicit direct(std::vector<std::string> arguments = {}) : server{started(std::move(arguments))} {}
  static tn::testing::redis_server started(std::vector<std::string> arguments) {
    support::need_redis();
    return tn::testing::redis_server{{.arguments = std::move(arguments)}};
  }
  tn::testing::redis_server server;
  tn::client redis{lasting(server.url())};
};

/// Units that Redis has counted.
std::uint64_t charged(const tn::client& redis, const tn::rate_limit& limit) {
  tn::rate_limiter looks{redis, tn::on_failure::fail_closed, limit, asks_always()};
  const tn::decision d = looks.peek(acme, path);
  REQUIRE(d.source == decision_source::redis);
  return limit.limit - d.remaining;
}

}  // namespace

TEST_CASE(
    "a server that is stopped: each decision is the policy's, in time; then Redis decides, and counted each once") {
  direct of;
  const tn::rate_limit limit{.limit = 1000, .window = 1h};
  const auto timeout = 300ms;
  for (const auto& policy : {tn::on_failure::fail_open, tn::on_failure::fail_closed, tn::on_failure::insurance(500)}) {
    of.redis.execute("FLUSHALL");
    const tn::client redis{lasting(of.server.url())};
    tn::rate_limiter limiter{redis, policy, limit, {.timeout = timeout, .denial_cache = std::nullopt}};
    REQUIRE(support::eventually([&] { return limiter.peek(acme, path).source == decision_source::redis; }));
    REQUIRE(support::eventually(
        [&] { return tn::sync_wait(limiter.async_peek(acme, path)).source == decision_source::redis; }));
    of.server.pause();
    std::uint64_t asked = 0;
    std::uint64_t allowed = 0;
    for (int i = 0; i < 6; ++i) {
      const auto begin = clock::now();
      const tn::decision d =
          i % 2 == 0 ? limiter.acquire(acme, path) : tn::sync_wait(limiter.async_acquire(acme, path));
      CHECK(clock::now() - begin < 10 * timeout);
      ++asked;
      allowed += d.granted;
      CHECK(d.source == policy.source());
      REQUIRE(d.failure != nullptr);
      CHECK(d.failure->code() == tn::errc::timeout);
      if (policy.source() == decision_source::fail_closed) CHECK(d.retry_after == std::optional{1000ms});
    }
    CHECK(allowed == (policy.source() == decision_source::fail_open   ? 6
                      : policy.source() == decision_source::insurance ? 2
                                                                      : 0));
    const auto begin = clock::now();
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&] { CHECK_FALSE(limiter.acquire(acme, path).source == decision_source::redis); });
    }
    for (std::thread& each : threads) each.join();
    CHECK(clock::now() - begin < 10 * timeout);
    asked += 8;
    of.server.resume();
    CHECK(support::eventually([&] {
      ++asked;
      return limiter.acquire(acme, path).source == decision_source::redis;
    }));
    CHECK(charged(of.redis, limit) <= asked);
    CHECK(charged(of.redis, limit) >= 1);
  }
}

TEST_CASE("a consume whose reply was lost is not sent again") {
  direct of;
  const tn::rate_limit limit{.limit = 1000, .window = 1h};
  for (const bool asynchronous : {false, true}) {
    for (const int how : {0, 1, 2}) {
      of.redis.execute("FLUSHALL");
      fault_proxy proxy{of.server.port()};
      const tn::client redis{lasting(proxy.url())};
      tn::rate_limiter limiter{redis, tn::on_failure::fail_open, limit, {.timeout = 2s, .denial_cache = std::nullopt}};
      const auto acquire = [&] {
        return asynchronous ? tn::sync_wait(limiter.async_acquire(acme, path)) : limiter.acquire(acme, path);
      };
      std::uint64_t asked = 0;
      std::uint64_t unanswered = 0;
      for (int round = 0; round < (how == 0 ? 2 : 20); ++round) {
        proxy.heal();
        if (how == 0) proxy.reset();  // what has lost a byte never passes again
        REQUIRE(support::eventually([&] {
          ++asked;
          return acquire().source == decision_source::redis;
        }));
        if (how == 0)
          proxy.apply(flow::to_client, {.carries = support::faults::transport::swallows}, support::reach::open);
        if (how == 1) proxy.apply(flow::to_client, {.cut_after = 1}, support::reach::open);
        if (how == 2) proxy.apply(flow::to_client, {.cut_after = 3}, support::reach::open);
        const std::uint64_t before = charged(of.redis, limit);
        const tn::decision d = acquire();
        ++asked;
        INFO("how " << how << ", round " << round << (asynchronous ? ", asynchronous" : ""));
        REQUIRE(d.source == decision_source::fail_open);
        REQUIRE(d.failure != nullptr);
        CHECK(d.failure->execution() == tn::execution::unknown);
        unanswered += 1;
        CHECK(charged(of.redis, limit) - before <= 1);
        CHECK(support::eventually([&] { return charged(of.redis, limit) == before + 1; }));
      }
      CHECK(charged(of.redis, limit) <= asked);
      CHECK(charged(of.redis, limit) >= unanswered);
    }
  }
}

TEST_CASE("a restart: the policy decides meanwhile, and the first that Redis answers is counted once") {
  direct of;
  for (const limit_kind kind : support::all_kinds) {
    tn::rate_limiter limiter{of.redis,
                             tn::on_failure::fail_open,
                             {.limit = 100, .window = 24h, .kind = kind},
                             {.timeout = 1s, .denial_cache = std::nullopt}};
    REQUIRE(support::eventually([&] { return limiter.acquire(acme, path, 40).source == decision_source::redis; }));
    of.server.kill();
    for (int i = 0; i < 3; ++i) {
      const tn::decision d = limiter.acquire(acme, path);
      CHECK(d.source == decision_source::fail_open);
      CHECK(d.failure != nullptr);
    }
    CHECK(limiter.peek(acme, path));
    CHECK(limiter.acquire_up_to(acme, path, 5).granted == 5);
    CHECK(limiter.refund(acme, path).granted == 0);  // nothing is known to be given back
    of.server.start();
    tn::decision d = limiter.acquire(acme, path);
    CHECK(support::eventually([&] {
      if (d.source == decision_source::redis) return true;
      d = limiter.acquire(acme, path);
      return false;
    }));
    CHECK(d);
    CHECK(d.remaining == 99);
  }
}

TEST_CASE("a replica that becomes the master goes on with what was replicated, and needs no script from before") {
  direct primary{{"--repl-diskless-sync-delay", "0"}};
  direct replica;
  for (const limit_kind kind : support::all_kinds) {
    INFO("kind " << int(kind));
    primary.redis.execute("FLUSHALL");
    replica.redis.execute("SCRIPT", "FLUSH");
    replica.redis.execute("REPLICAOF", "127.0.0.1", std::to_string(primary.server.port()));
    const tn::rate_limit limit{.limit = 10, .window = 24h, .kind = kind};
    tn::rate_limiter before{primary.redis, tn::on_failure::fail_closed, limit, asks_always()};
    REQUIRE(support::eventually([&] {
      return replica.redis.execute("INFO", "replication").str().find("master_link_status:up") != std::string::npos;
    }));
    for (int i = 0; i < 3; ++i) REQUIRE(before.acquire(acme, path));
    REQUIRE(before.refund(acme, path).granted == 1);
    const std::string key = "ratelimit:{acme}:" + path + std::string{support::key_end(kind)};
    const std::string value = primary.redis.execute("GET", key).str();
    REQUIRE(support::eventually([&] {
      const tn::reply there = replica.redis.execute("GET", key);
      return !there.is_nil() && there.str() == value;
    }));
    CHECK(replica.redis.execute("PEXPIRETIME", key).integer() == primary.redis.execute("PEXPIRETIME", key).integer());

    tn::rate_limiter after{
        replica.redis, tn::on_failure::fail_closed, limit, {.timeout = 500ms, .denial_cache = std::nullopt}};
    const tn::decision refused = after.acquire(acme, path);
    CHECK_FALSE(refused);
    CHECK(refused.source == decision_source::fail_closed);
    CHECK(refused.failure != nullptr);
    replica.redis.execute("REPLICAOF", "NO", "ONE");
    replica.redis.execute("SCRIPT", "FLUSH");
    tn::rate_limiter goes_on{replica.redis, tn::on_failure::fail_closed, limit, asks_always()};
    const tn::decision d = goes_on.acquire(acme, path);
    CHECK(d);
    CHECK(d.source == decision_source::redis);
    CHECK(d.remaining == 7);
  }
}

TEST_CASE("ten thousand denials and peeks send nothing to a replica, and leave keys and lives as they are") {
  direct primary{{"--repl-ping-replica-period", "3600", "--repl-diskless-sync-delay", "0"}};
  direct replica{{"--replicaof", "127.0.0.1 " + std::to_string(primary.server.port())}};
  REQUIRE(support::eventually([&] {
    return replica.redis.execute("INFO", "replication").str().find("master_link_status:up") != std::string::npos;
  }));
  const auto offset = [&] { return support::info(primary.redis, "replication", "master_repl_offset:"); };
  for (const limit_kind kind : support::all_kinds) {
    INFO("kind " << int(kind));
    tn::rate_limiter limiter{
        primary.redis, tn::on_failure::fail_closed, {.limit = 10, .window = 24h, .kind = kind}, asks_always()};
    const auto begin = offset();
    REQUIRE(limiter.acquire(acme, path, 10));
    REQUIRE(support::eventually([&] { return offset() > begin; }));
    const std::string key = "ratelimit:{acme}:" + path + std::string{support::key_end(kind)};
    const auto before = offset();
    const auto keys = primary.redis.execute("DBSIZE").integer();
    const auto life = primary.redis.execute("PEXPIRETIME", key).integer();
    const std::string value = primary.redis.execute("GET", key).str();
    for (std::uint64_t i = 0; i < 2500; ++i) {
      REQUIRE_FALSE(limiter.acquire(acme, path, 1 + i % 12));
      REQUIRE_FALSE(limiter.acquire_up_to(acme, path, 3));
      REQUIRE_FALSE(limiter.peek(acme, path));
      REQUIRE(limiter.peek(acme, "/nothing/" + std::to_string(i % 100)));
    }
    CHECK(limiter.refund(acme, "/nothing/1").granted == 0);
    CHECK(offset() == before);
    CHECK(primary.redis.execute("DBSIZE").integer() == keys);
    CHECK(primary.redis.execute("PEXPIRETIME", key).integer() == life);
    CHECK(primary.redis.execute("GET", key).str() == value);
    CHECK(limiter.counters().redis.denied >= 7500);
  }
}

TEST_CASE("while scripts are flushed again and again the limit is reached exactly, and nobody notices") {
  direct of;
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log}) {
    tn::rate_limiter limiter{
        of.redis, tn::on_failure::fail_open, {.limit = 300, .window = 1h, .kind = kind}, asks_always()};
    std::atomic<bool> over{false};
    std::thread flushes{[&] {
      while (!over) of.redis.execute("SCRIPT", "FLUSH");
    }};
    std::atomic<std::uint64_t> admitted{0};
    std::atomic<std::uint64_t> failures{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 120; ++i) {
          const tn::decision d =
              t == 0 ? tn::sync_wait(limiter.async_acquire(acme, path)) : limiter.acquire(acme, path);
          admitted += d.granted;
          failures += d.failure ? 1 : 0;
        }
      });
    }
    for (std::thread& each : threads) each.join();
    over = true;
    flushes.join();
    CHECK(failures == 0);
    CHECK(admitted == 300);
  }
}

TEST_CASE("a server out of memory is a failure, and the policy decides until it has some again") {
  direct of;
  tn::rate_limiter limiter{of.redis, tn::on_failure::fail_open, {.limit = 10, .window = 1h}, asks_always()};
  REQUIRE(limiter.acquire(acme, path));
  of.redis.execute("CONFIG", "SET", "maxmemory", "1");
  const tn::decision d = limiter.acquire(acme, path);
  CHECK(d.source == decision_source::fail_open);
  REQUIRE(d.failure != nullptr);
  CHECK(d.failure->code() == tn::errc::out_of_memory);
  of.redis.execute("CONFIG", "SET", "maxmemory", "0");
  CHECK(limiter.acquire(acme, path).remaining == 8);
}

TEST_CASE("after a reset whose reply was lost, no more than the limit is admitted with grants either") {
  direct of;
  fault_proxy proxy{of.server.port()};
  const tn::client redis{lasting(proxy.url())};
  tn::rate_limiter limiter{redis,
                           tn::on_failure::fail_closed,
                           {.limit = 100, .window = 1h},
                           {.timeout = 1s, .grants = tn::grant_options{.share = 0.2, .life = 6min}}};
  for (int i = 0; i < 25; ++i) REQUIRE(limiter.acquire(acme, path));
  proxy.apply(flow::to_client, {.carries = support::faults::transport::swallows}, support::reach::open);
  CHECK(support::thrown_by([&] { limiter.reset(acme, path); }));
  CHECK(support::eventually([&] { return of.redis.execute("DBSIZE").integer() == 0; }));
  proxy.heal();
  proxy.reset();
  std::uint64_t admitted = 0;
  CHECK(support::eventually([&] {
    const tn::decision d = limiter.acquire(acme, path);
    admitted += d.granted;
    return !d && d.source != decision_source::fail_closed;
  }));
  CHECK(admitted == 100);
}

TEST_CASE("with the breaker open the policy decides at once, and nothing is sent") {
  direct of;
  auto options = tn::client_options::from_url(of.server.url());
  options.breaker.open_for = options.breaker.longest_open_for = 1h;
  const tn::client redis{options};
  tn::rate_limiter limiter{
      redis, tn::on_failure::fail_open, {.limit = 100, .window = 1h}, {.timeout = 20s, .denial_cache = std::nullopt}};
  REQUIRE(limiter.acquire(acme, path));
  of.server.pause();
  tn::rate_limiter hasty{redis, tn::on_failure::fail_open, {.limit = 100, .window = 1h}, {.timeout = 50ms}};
  CHECK(support::eventually([&] {
    const tn::decision d = hasty.acquire(acme, path);
    return d.failure && d.failure->execution() == tn::execution::not_sent;
  }));
  const auto begin = clock::now();
  for (int i = 0; i < 100; ++i) {
    const tn::decision d = i % 2 == 0 ? limiter.acquire(acme, path) : tn::sync_wait(limiter.async_acquire(acme, path));
    REQUIRE(d.source == decision_source::fail_open);
    REQUIRE(d.failure != nullptr);
    CHECK(d.failure->execution() == tn::execution::not_sent);
    REQUIRE(limiter.peek(acme, path).source == decision_source::fail_open);
  }
  CHECK(clock::now() - begin < 10s);  // not 20 s for one
  of.server.resume();
}

TEST_CASE("an answer that arrives after what came later is not remembered: neither denials nor units taken ahead") {
  direct of;
  for (const bool ahead : {false, true}) {
    of.redis.execute("FLUSHALL");
    fault_proxy proxy{of.server.port()};
    const tn::client redis{lasting(proxy.url())};
    tn::limiter_options how{.timeout = 20s};
    if (ahead) how.grants = tn::grant_options{.share = 0.5, .life = 6min};
    tn::rate_limiter limiter{redis, tn::on_failure::fail_closed, {.limit = 20, .window = 1h}, how};
    REQUIRE(limiter.peek(acme, path));  // the connection of threads
    if (!ahead) REQUIRE(limiter.acquire(acme, path, 20));
    if (ahead) REQUIRE(limiter.acquire(acme, path));
    const auto calls = support::script_calls(of.redis);
    proxy.apply(flow::to_client, {.carries = support::faults::transport::holds}, support::reach::open);
    auto late = support::on_thread([&] { return limiter.acquire(acme, path); });
    REQUIRE(support::eventually([&] { return support::script_calls(of.redis) > calls; }));
    // Coroutines have another connection.
    if (ahead) {
      tn::sync_wait(limiter.async_reset(acme, path));
    } else {
      REQUIRE(tn::sync_wait(limiter.async_refund(acme, path)).granted == 1);
    }
    proxy.heal();
    CHECK(late.get().allowed == ahead);
    std::uint64_t admitted = 0;
    while (admitted < 100 && limiter.acquire(acme, path)) ++admitted;
    CHECK(admitted == (ahead ? 20 : 1));
  }
}
