// Rate limiters whose client is closed while requests are on the way, or wait to be admitted.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/limiter_rig.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::flow;
using support::redis_rig;
using tn::decision_source;

const std::string path = "/api/kpi";

}  // namespace

TEST_CASE("closing the client decides all requests that share a call or wait for one by the policy") {
  const redis_rig rig;
  const support::must_end limit;
  support::fault_proxy proxy{redis_rig::server().port()};
  tn::client redis{support::lasting(proxy.url())};
  tn::rate_limiter limiter{redis, tn::on_failure::fail_open, {.limit = 1000, .window = 1h}, support::asks_always()};
  (void)limiter.peek(acme, "/warm");
  (void)tn::sync_wait(limiter.async_peek(acme, "/warm"));
  const auto before = proxy.taken(flow::to_server);
  proxy.apply(flow::to_server, {.carries = support::faults::transport::holds});
  std::vector<support::under_way<tn::decision>> tasks;
  for (int i = 0; i < 20; ++i) tasks.push_back(support::started(limiter.async_acquire(acme, path)));
  std::vector<tn::decision> of_threads(8);
  std::vector<std::thread> threads;
  for (tn::decision& each : of_threads) threads.emplace_back([&] { each = limiter.acquire(acme, "/threads"); });
  CHECK(support::eventually([&] { return proxy.taken(flow::to_server) > before; }));
  redis.close(0ms);
  for (std::thread& each : threads) each.join();
  for (auto& each : tasks) of_threads.push_back(each.take());
  std::size_t closed = 0;
  for (const tn::decision& d : of_threads) {
    CHECK(d.source == decision_source::fail_open);
    closed += d.failure && d.failure->code() == tn::errc::closed ? 1 : 0;  // and not when their time was over
  }
  CHECK(closed == 28);
}

TEST_CASE("closing the client while many wait in line: each is decided by the policy, and nobody asks in a circle") {
  const redis_rig rig;
  for (const auto& policy : {tn::on_failure::fail_open, tn::on_failure::fail_closed, tn::on_failure::insurance(1)}) {
    const support::must_end limit;
    INFO(tn::to_string(policy.source()));
    rig.client.execute("FLUSHALL");
    tn::client redis{support::lasting(redis_rig::server().url())};
    tn::rate_limiter limiter{redis, policy, {.limit = 1, .window = 2s}, support::remembers()};
    REQUIRE(limiter.acquire(acme, path));
    std::vector<support::under_way<tn::decision>> line;
    for (int i = 0; i < 6; ++i) line.push_back(support::started(limiter.async_wait(acme, path, 20s)));
    redis.close(0ms);
    std::size_t admitted = 0;
    for (auto& each : line) {
      const tn::decision d = each.take();
      admitted += d ? 1 : 0;
      if (d.source == decision_source::redis) continue;
      CHECK(d.source == policy.source());
      REQUIRE(d.failure != nullptr);
      CHECK(d.failure->code() == tn::errc::closed);
    }
    if (policy.source() == decision_source::fail_closed) CHECK(admitted <= 1);
    if (policy.source() == decision_source::fail_open) CHECK(admitted == 6);
    CHECK(limiter.counters().insurance.denied <= 100);
  }
}
