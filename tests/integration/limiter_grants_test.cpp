// Units that a process takes ahead: fewer round trips, and still never more than the limit in any window.

#include "support/limiter_rig.hpp"
#include "support/processes.hpp"
#include "support/random_bytes.hpp"
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
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::admissions;
using support::asks_always;
using support::redis_rig;
using tn::decision_source;
using tn::limit_kind;
using clock = std::chrono::steady_clock;

const std::string path = "/api/kpi";

tn::limiter_options with_grants(double share, std::chrono::milliseconds life, bool remembering = false) {
  tn::limiter_options how{.timeout = 20s, .grants = tn::grant_options{.share = share, .life = life}};
  if (!remembering) how.denial_cache = std::nullopt;
  return how;
}

/// Acquires until denied; how many units that were.
std::uint64_t all_of(tn::rate_limiter& limiter, std::uint64_t at_most = 10'000) {
  std::uint64_t units = 0;
  while (units < at_most && limiter.acquire(acme, path)) ++units;
  return units;
}

}  // namespace

TEST_CASE("with units taken ahead by several processes, no window has more than the limit") {
  support::need_redis();
  const tn::testing::redis_server server;
  support::random_bytes random;
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log}) {
    for (const int way : {0, 1, 2}) {
      const std::chrono::milliseconds window{300 + random.below(201)};
      const std::uint64_t limit = 20 + random.below(60);
      const support::shared_memory<admissions> log;
      std::vector<support::process> running;
      const std::string name = "/" + std::to_string(int(kind)) + "/" + std::to_string(way);
      for (std::uint64_t p = 0; p < 3; ++p) {
        running.emplace_back([&, seed = random.below(1'000'000) + p] {
          support::random_bytes dice{seed};
          const tn::client redis{support::lasting(server.url())};
          tn::rate_limiter limiter{redis,
                                   tn::on_failure::fail_closed,
                                   {.limit = limit, .window = window, .kind = kind},
                                   with_grants(0.2, window / 10, way == 1)};
          const std::int64_t end = admissions::now() + window.count() * 1000 * 5;
          while (admissions::now() < end) {
            const std::int64_t asked = admissions::now();
            const std::uint64_t cost = way == 2 ? 1 + dice.below(3) : 1;
            const tn::decision d = way == 2 && dice.below(2) == 0 ? limiter.acquire_up_to(acme, name, cost)
                                                                  : limiter.acquire(acme, name, cost);
            const std::int64_t told = admissions::now();
            if (d.failure) return 1;
            if (d) log->note(asked, told, d.granted);
            if (dice.below(4) == 0) std::this_thread::sleep_for(std::chrono::microseconds{dice.below(4000)});
          }
          return 0;
        });
      }
      for (support::process& each : running) REQUIRE(each.result() == 0);
      INFO("kind " << int(kind) << ", way " << way << ", limit " << limit << " in " << window.count() << " ms");
      REQUIRE(log->count < admissions::most);
      CHECK(log->most_within(window - 1ms) <= std::int64_t(limit));
      CHECK(log->count * 3 >= limit * 2);  // they get something, in every window
    }
  }
}

TEST_CASE("with units taken ahead most decisions need no round trip, and all of the limit can be used") {
  const redis_rig redis;
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log}) {
    redis.client.execute("FLUSHALL");
    tn::rate_limiter limiter{
        redis.client, tn::on_failure::fail_closed, {.limit = 1000, .window = 10h, .kind = kind}, with_grants(0.1, 1h)};
    (void)limiter.peek(acme, "/warm");
    redis.client.execute("CONFIG", "RESETSTAT");
    CHECK(all_of(limiter) == 1000);
    CHECK(support::script_calls(redis.client) <= 100);
    const auto counted = limiter.counters();
    CHECK(counted.grant.allowed >= 900);
    CHECK(counted.grant.denied == 0);
    CHECK(counted.redis.denied <= 2);
  }
}

TEST_CASE("a decision from a grant says what there is, and who decided") {
  const redis_rig redis;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 1000, .window = 1h}, with_grants(0.1, 6min)};
  std::uint64_t before = 1000;
  bool from_grant = false;
  for (int i = 0; i < 50; ++i) {
    const tn::decision d = i % 2 == 0 ? limiter.acquire(acme, path) : tn::sync_wait(limiter.async_acquire(acme, path));
    REQUIRE(d);
    CHECK(d.limit == 1000);
    CHECK(d.window == 1h);
    CHECK(d.granted == 1);
    CHECK(d.cost == 1);
    CHECK(d.remaining < 1000);
    CHECK(d.remaining <= before);
    CHECK(d.retry_after == std::optional{0ms});
    CHECK(d.reset_after > 0ms);
    CHECK(d.reset_after <= 1h + 6min + 1min);
    CHECK(d.failure == nullptr);
    before = d.remaining;
    from_grant = from_grant || d.source == decision_source::grant;
  }
  CHECK(from_grant);
}

TEST_CASE("a process takes no more ahead than its share, and what it does not use comes back after a window") {
  const redis_rig redis;
  const tn::rate_limit limit{.limit = 100, .window = 500ms};
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, limit, with_grants(0.1, 50ms)};
  tn::rate_limiter other{redis.client, tn::on_failure::fail_closed, limit, asks_always()};
  for (int i = 0; i < 20; ++i) REQUIRE(limiter.acquire(acme, path));
  CHECK(other.peek(acme, path).remaining <= 100 - 10);
  CHECK(support::eventually([&] { return other.peek(acme, path).remaining == 100; }));
  CHECK(support::eventually([&] { return redis.client.execute("DBSIZE").integer() == 0; }));

  const tn::rate_limit long_limit{.limit = 100, .window = 1h};
  tn::rate_limiter holder{redis.client, tn::on_failure::fail_closed, long_limit, with_grants(0.1, 6min)};
  tn::rate_limiter watcher{redis.client, tn::on_failure::fail_closed, long_limit, asks_always()};
  REQUIRE(holder.acquire(acme, path));
  CHECK(watcher.peek(acme, path).remaining >= 90);
  for (int i = 0; i < 30; ++i) REQUIRE(holder.acquire(acme, path));
  CHECK(watcher.peek(acme, path).remaining >= 100 - 31 - 10);
  CHECK(watcher.peek(acme, path).remaining <= 100 - 31);
  CHECK(all_of(watcher) + 31 <= 100);
}

TEST_CASE("units whose life is over are not given out") {
  const redis_rig redis;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 100, .window = 10s}, with_grants(0.5, 100ms)};
  for (int i = 0; i < 30; ++i) REQUIRE(limiter.acquire(acme, path));
  const bool held = limiter.acquire(acme, path).source == decision_source::grant;
  std::this_thread::sleep_for(101ms);
  const tn::decision d = limiter.acquire(acme, path);
  CHECK(d.source == decision_source::redis);
  INFO(held);
}

TEST_CASE("units that are left are not given out longer because new ones were taken") {
  const redis_rig redis;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 200, .window = 10s}, with_grants(0.2, 1s)};
  auto taken = clock::now();  // not before the oldest units that are left
  bool some_left = false;
  for (int i = 0; i < 60 || !some_left; ++i) {
    const tn::decision d = limiter.acquire(acme, path);
    REQUIRE(d);
    some_left = d.source == decision_source::redis && i > 20;
    if (d.source == decision_source::redis) taken = clock::now();
  }
  std::this_thread::sleep_until(taken + 700ms);
  REQUIRE(limiter.acquire(acme, path, 41).source == decision_source::redis);  // more than a share
  const bool in_time = clock::now() < taken + 950ms;
  std::this_thread::sleep_until(taken + 1001ms);
  if (in_time) CHECK(limiter.acquire(acme, path).source == decision_source::redis);
}

TEST_CASE("reset and new limits drop what was taken ahead") {
  const redis_rig redis;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 100, .window = 1h}, with_grants(0.2, 6min)};
  for (int i = 0; i < 25; ++i) REQUIRE(limiter.acquire(acme, path));
  limiter.reset(acme, path);
  CHECK(all_of(limiter) == 100);
  tn::sync_wait(limiter.async_reset(acme, path));
  CHECK(all_of(limiter) == 100);
  limiter.reset(acme, path);
  for (int i = 0; i < 25; ++i) REQUIRE(limiter.acquire(acme, path));
  limiter.set_limits({{.limit = 5, .window = 1h}});
  CHECK_FALSE(limiter.acquire(acme, path));
  limiter.set_limits({{.limit = 100, .window = 1h}});
  CHECK(all_of(limiter) <= 75);
}

TEST_CASE("a refund of what a grant gave is there again, and no more") {
  const redis_rig redis;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 50, .window = 1h}, with_grants(0.2, 6min)};
  for (int i = 0; i < 22; ++i) REQUIRE(limiter.acquire(acme, path));
  CHECK(limiter.refund(acme, path, 4).granted == 4);
  CHECK(all_of(limiter) == 50 - 22 + 4);
  CHECK(limiter.refund(acme, path, 2).granted == 2);
  CHECK(all_of(limiter) == 2);
}

TEST_CASE("with grants, several limits, larger costs and small limits stay exact") {
  const redis_rig redis;
  tn::rate_limiter both{redis.client,
                        tn::on_failure::fail_closed,
                        {{.limit = 100, .window = 1h}, {.limit = 40, .window = 20min}},
                        with_grants(0.1, 1min)};
  CHECK(all_of(both) == 40);
  const tn::decision denied = both.acquire(acme, path);
  CHECK(denied.decided_by == 1);
  REQUIRE(denied.limits.size() == 2);
  CHECK(denied.limits[0].remaining <= 60);

  redis.client.execute("FLUSHALL");
  tn::rate_limiter small{
      redis.client, tn::on_failure::fail_closed, {.limit = 3, .window = 1h}, with_grants(0.05, 1min)};
  CHECK(all_of(small) == 3);

  redis.client.execute("FLUSHALL");
  tn::rate_limiter costly{
      redis.client, tn::on_failure::fail_closed, {.limit = 100, .window = 1h}, with_grants(0.1, 1min)};
  std::uint64_t units = 0;
  for (int i = 0; i < 100; ++i) {
    units += costly.acquire(acme, path, 7).granted;
    units += costly.acquire(acme, path, 1).granted;
  }
  units += all_of(costly);
  CHECK(units == 100);
  CHECK_FALSE(costly.acquire(acme, path, 101).retry_after);
}

TEST_CASE("many threads with grants are admitted exactly up to the limit") {
  const redis_rig redis;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 500, .window = 1h}, with_grants(0.05, 6min)};
  std::atomic<std::uint64_t> admitted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 120; ++i) admitted += limiter.acquire(acme, path).granted;
    });
  }
  for (std::thread& each : threads) each.join();
  CHECK(admitted == 500);
}

TEST_CASE("without Redis what was taken ahead is still given out, then the policy decides") {
  support::need_redis();
  tn::testing::redis_server server;
  const tn::client redis{support::lasting(server.url())};
  tn::limiter_options how = with_grants(0.2, 6min);
  how.timeout = 500ms;
  tn::rate_limiter limiter{redis, tn::on_failure::fail_closed, {.limit = 100, .window = 1h}, how};
  for (int i = 0; i < 30; ++i) (void)limiter.acquire(acme, path);
  server.kill();
  std::uint64_t given = 0;
  tn::decision d = limiter.acquire(acme, path);
  while (d && given < 1000) {
    CHECK(d.source == decision_source::grant);
    ++given;
    d = limiter.acquire(acme, path);
  }
  CHECK(given <= 20);
  CHECK(d.source == decision_source::fail_closed);
}

TEST_CASE("a process never holds more than its share, whatever it asks for") {
  const redis_rig redis;
  support::random_bytes random;
  for (int round = 0; round < 20; ++round) {
    redis.client.execute("FLUSHALL");
    const tn::rate_limit limit{.limit = 1000, .window = 1h};
    tn::rate_limiter holder{redis.client, tn::on_failure::fail_closed, limit, with_grants(0.02, 6min)};
    tn::rate_limiter watcher{redis.client, tn::on_failure::fail_closed, limit, asks_always()};
    std::uint64_t used = 0;
    for (int i = 0; i < 150; ++i) {
      used += holder.acquire(acme, path, random.below(8) == 0 ? 1 + random.below(20) : 1).granted;
      const std::uint64_t charged = 1000 - watcher.peek(acme, path).remaining;
      INFO("step " << i << " of round " << round);
      REQUIRE(charged >= used);
      REQUIRE(charged - used <= 20);
    }
  }
}

TEST_CASE("what cannot be remembered or taken ahead is refused when the limiter is made, by name") {
  const redis_rig redis;
  const auto refused = [&](const tn::limiter_options& how) {
    try {
      tn::rate_limiter{redis.client, tn::on_failure::fail_open, {.limit = 100, .window = 1s}, how};
    } catch (const tn::invalid_option& why) {
      return std::string{why.what()};
    }
    return std::string{};
  };
  CHECK(refused({.grants = tn::grant_options{.life = 101ms}}).find("grant_options.life") == 0);
  CHECK(refused({.grants = tn::grant_options{.life = 0ms}}).find("grant_options.life") == 0);
  CHECK(refused({.grants = tn::grant_options{.share = 0}}).find("grant_options.share") == 0);
  CHECK(refused({.grants = tn::grant_options{.share = 1.01}}).find("grant_options.share") == 0);
  CHECK(refused({.grants = tn::grant_options{.share = 1, .life = 100ms}}).empty());
  CHECK(refused({.denial_cache = tn::denial_cache_options{.names = 0}}).find("denial_cache_options.names") == 0);
  CHECK(refused({.denial_cache = tn::denial_cache_options{.max_age = 0ms}}).find("denial_cache_options.max_age") == 0);
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_open, {.limit = 100, .window = 1s}, with_grants(0.1, 50ms)};
  CHECK_THROWS_AS(limiter.set_limits({{.limit = 100, .window = 499ms}}), tn::invalid_option);
  CHECK(limiter.acquire(acme, path).window == 1s);
}

TEST_CASE("with each kind units taken ahead count from the end of their life on") {
  const redis_rig redis;
  for (const limit_kind kind : support::all_kinds) {
    INFO("kind " << int(kind));
    tn::rate_limiter limiter{
        redis.client, tn::on_failure::fail_closed, {.limit = 100, .window = 1h, .kind = kind}, with_grants(0.1, 6min)};
    const tn::decision d = limiter.acquire(acme, path);
    REQUIRE(d);
    CHECK(d.reset_after > (kind == limit_kind::gcra ? 6min : 1h + 5min + 50s));
  }
}
