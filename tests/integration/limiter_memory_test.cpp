// What a limiter remembers of denials: Redis is not asked while it would deny, and never for longer.

#include "support/limiter_rig.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::asks_always;
using support::redis_rig;
using support::remembers;
using tn::decision_source;
using tn::limit_kind;
using clock = std::chrono::steady_clock;

constexpr std::string_view path = "/api/kpi";

/// A limiter whose limit is used up, and whose script the server knows.
struct used_up {
  explicit used_up(const redis_rig& rig, tn::rate_limit limit = {.limit = 3, .window = 1h},
                   tn::limiter_options how = remembers())
      : redis{rig.client}, limiter{rig.client, tn::on_failure::fail_closed, limit, how} {
    REQUIRE(limiter.acquire(acme, path, limit.limit));
  }
  /// How many scripts ran meanwhile.
  template <class Action>
  std::uint64_t calls(Action&& action) const {
    redis.execute("CONFIG", "RESETSTAT");
    action();
    return support::script_calls(redis);
  }

  const tn::client& redis;
  tn::rate_limiter limiter;
};

}  // namespace

TEST_CASE("after a denial Redis is not asked again, and what is told is what Redis said, a little later") {
  const redis_rig redis;
  for (const limit_kind kind : support::all_kinds) {
    redis.client.execute("FLUSHALL");
    used_up of{redis, {.limit = 3, .window = 1h, .kind = kind}};
    const tn::decision first = of.limiter.acquire(acme, path);
    REQUIRE_FALSE(first);
    CHECK(first.source == decision_source::redis);
    CHECK(of.calls([&] {
      auto left = *first.retry_after;
      for (int i = 0; i < 100; ++i) {
        const tn::decision d = i % 2 == 0 ? of.limiter.acquire(acme, path)
                                          : tn::sync_wait(of.limiter.async_acquire(acme, std::string{path}));
        REQUIRE_FALSE(d);
        CHECK(d.source == decision_source::denial_cache);
        CHECK(d.failure == nullptr);
        CHECK(d.limit == 3);
        CHECK(d.window == 1h);
        CHECK(d.cost == 1);
        CHECK(d.granted == 0);
        CHECK(d.remaining == 0);
        REQUIRE(d.retry_after);
        CHECK(*d.retry_after <= left);
        CHECK(*d.retry_after > *first.retry_after - 60s);
        CHECK(d.next_in <= first.next_in);
        CHECK(d.reset_after <= first.reset_after);
        CHECK(d.reset_after >= *d.retry_after);
        CHECK(d.headers().size() == 1);
        left = *d.retry_after;
      }
      std::this_thread::sleep_for(5ms);
      CHECK(*of.limiter.acquire(acme, path).retry_after < *first.retry_after);
    }) == 0);
    const auto counted = of.limiter.counters();
    CHECK(counted.denial_cache.denied == 101);
    CHECK(counted.denial_cache.allowed == 0);
    CHECK(counted.redis.denied == 1);
  }
}

TEST_CASE("what the memory says about waiting comes true: asked so much later, Redis admits") {
  const redis_rig redis;
  for (const limit_kind kind : support::all_kinds) {
    redis.client.execute("FLUSHALL");
    used_up of{redis, {.limit = 3, .window = 300ms, .kind = kind}};
    for (int i = 0; i < 4; ++i) {
      tn::decision denied = of.limiter.acquire(acme, path, 3);
      while (!denied && denied.source != decision_source::denial_cache) denied = of.limiter.acquire(acme, path, 3);
      if (denied) continue;  // a slow machine: the window was over
      REQUIRE(denied.retry_after);
      std::this_thread::sleep_for(*denied.retry_after);
      const tn::decision later = of.limiter.acquire(acme, path, 3);
      INFO("kind " << int(kind) << ", round " << i);
      REQUIRE(later);
      CHECK(later.source == decision_source::redis);
    }
  }
}

TEST_CASE("a smaller cost, another path and another tenant are not denied from memory") {
  const redis_rig redis;
  used_up of{redis, {.limit = 3, .window = 1h}};
  CHECK(of.limiter.refund(acme, path, 2).granted == 2);
  REQUIRE_FALSE(of.limiter.acquire(acme, path, 3));
  REQUIRE(of.limiter.acquire(acme, path, 3).source == decision_source::denial_cache);
  CHECK(of.limiter.acquire(tn::tenant_id{"globex"}, path, 3));
  CHECK(of.limiter.acquire(acme, "/api/other", 3));
  const tn::decision d = of.limiter.acquire(acme, path, 2);
  CHECK(d);
  CHECK(d.source == decision_source::redis);
  CHECK(d.remaining == 0);
}

TEST_CASE("a denial of a small cost says nothing wrong about a larger one") {
  const redis_rig redis;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 3, .window = 1h}, remembers()};
  REQUIRE(limiter.acquire(acme, path, 1));
  std::this_thread::sleep_for(20ms);
  REQUIRE(limiter.acquire(acme, path, 2));
  const tn::decision one = limiter.acquire(acme, path);
  const tn::decision three = limiter.acquire(acme, path, 3);
  REQUIRE(three.retry_after);
  CHECK(*three.retry_after > *one.retry_after);
  CHECK_FALSE(limiter.acquire(acme, path, 4).retry_after);
  CHECK_FALSE(limiter.acquire(acme, path, 4).retry_after);
  CHECK(*limiter.acquire(acme, path).retry_after <= *one.retry_after);
  CHECK(*limiter.acquire(acme, path, 3).retry_after <= *three.retry_after);
  CHECK(*limiter.acquire(acme, path, 3).retry_after > *one.retry_after - 10ms);
}

TEST_CASE("refund, reset and new limits in this process let the next one in at once") {
  const redis_rig redis;
  used_up of{redis};
  const auto blocked = [&] {
    (void)of.limiter.acquire(acme, path);
    const tn::decision d = of.limiter.acquire(acme, path);
    return !d && d.source == decision_source::denial_cache;
  };
  REQUIRE(blocked());
  CHECK(of.limiter.refund(acme, path).granted == 1);
  CHECK(of.limiter.acquire(acme, path));
  REQUIRE(blocked());
  CHECK(tn::sync_wait(of.limiter.async_refund(acme, std::string{path})).granted == 1);
  CHECK(of.limiter.acquire(acme, path));
  REQUIRE(blocked());
  of.limiter.reset(acme, path);
  CHECK(of.limiter.acquire(acme, path, 3));
  REQUIRE(blocked());
  tn::sync_wait(of.limiter.async_reset(acme, std::string{path}));
  CHECK(of.limiter.acquire(acme, path, 3));
  REQUIRE(blocked());
  of.limiter.set_limits({{.limit = 4, .window = 1h}});
  CHECK(of.limiter.acquire(acme, path));
  REQUIRE(blocked());
  std::this_thread::sleep_for(2ms);
  of.limiter.set_limits({{.limit = 4, .window = 1ms}});  // a shorter window, which is over
  CHECK(of.limiter.acquire(acme, path));
}

TEST_CASE("what another process gives back is there when the memory is too old") {
  const redis_rig redis;
  const tn::client other{redis_rig::server().url()};
  tn::rate_limiter elsewhere{other, tn::on_failure::fail_closed, {.limit = 3, .window = 1h}, asks_always()};
  used_up of{redis, {.limit = 3, .window = 1h}, remembers(300ms)};
  REQUIRE_FALSE(of.limiter.acquire(acme, path));
  REQUIRE(elsewhere.refund(acme, path).granted == 1);
  const auto given_back = clock::now();
  std::uint64_t from_memory = 0;
  tn::decision d = of.limiter.acquire(acme, path);
  while (!d && clock::now() < given_back + 20s) {
    from_memory += d.source == decision_source::denial_cache ? 1 : 0;
    d = of.limiter.acquire(acme, path);
  }
  CHECK(d);
  CHECK(clock::now() - given_back < 3s);
  INFO(from_memory);
}

TEST_CASE("Redis is asked once in the time that a memory may have, and not more often") {
  const redis_rig redis;
  used_up of{redis, {.limit = 3, .window = 1h}, remembers(100ms)};
  const auto begin = clock::now();
  const std::uint64_t calls = of.calls([&] {
    bool denied = true;
    while (clock::now() < begin + 1s) denied = denied && !of.limiter.acquire(acme, path);
    CHECK(denied);
  });
  const auto took = clock::now() - begin;
  CHECK(calls >= 2);
  CHECK(calls <= static_cast<std::uint64_t>(took / 100ms) + 1);
}

TEST_CASE("whoever is denied from memory would have been denied by Redis") {
  const redis_rig redis;
  support::random_bytes random;
  for (const limit_kind kind : support::all_kinds) {
    std::uint64_t from_memory = 0;
    for (int round = 0; round < 4; ++round) {
      redis.client.execute("FLUSHALL");
      const tn::rate_limit limit{
          .limit = 1 + random.below(6), .window = std::chrono::milliseconds{50 + random.below(251)}, .kind = kind};
      tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, limit, remembers()};
      tn::rate_limiter without{redis.client, tn::on_failure::fail_closed, limit, asks_always()};
      const auto end = clock::now() + 500ms;
      for (int i = 0; clock::now() < end; ++i) {
        const std::uint64_t cost = 1 + random.below(limit.limit);
        const std::size_t choice = random.below(20);
        if (choice == 0) (void)without.acquire(acme, path);
        if (choice == 1) (void)limiter.refund(acme, path);
        const bool partly = choice < 6;
        const tn::decision expected = without.peek(acme, path, partly ? 1 : cost);  // units only come back from here on
        const tn::decision d = partly ? limiter.acquire_up_to(acme, path, cost) : limiter.acquire(acme, path, cost);
        from_memory += d.source == decision_source::denial_cache ? 1 : 0;
        INFO("kind " << int(kind) << ", limit " << limit.limit << " in " << limit.window.count() << " ms, cost " << cost
                     << ", step " << i << " of round " << round);
        const bool right = d.failure == nullptr && (d.allowed || !expected.allowed) &&
                           (!partly || !expected.allowed || d.granted >= std::min(cost, expected.remaining));
        REQUIRE(right);
        if (random.below(3) == 0) std::this_thread::sleep_for(std::chrono::microseconds{random.below(8000)});
      }
    }
    CHECK(from_memory > 0);
  }
}

TEST_CASE("the memory is bounded: of many names the ones used last are remembered, and all are decided right") {
  const redis_rig redis;
  constexpr int many = 500;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 1, .window = 1h}, remembers(10min, 4)};
  const auto name = [](int i) { return "/p/" + std::to_string(i); };
  for (int i = 0; i < many; ++i) {
    REQUIRE(limiter.acquire(acme, name(i)));
    REQUIRE_FALSE(limiter.acquire(acme, name(i)));
  }
  CHECK(limiter.acquire(acme, name(many - 1)).source == decision_source::denial_cache);
  std::uint64_t remembered = 0;
  for (int i = 0; i < many; ++i) {
    const tn::decision d = limiter.acquire(acme, name(i));
    REQUIRE_FALSE(d);
    CHECK(d.limit == 1);
    remembered += d.source == decision_source::denial_cache ? 1 : 0;
  }
  CHECK(remembered <= 4);
}

TEST_CASE("a name that is used again and again is remembered, however many others come") {
  const redis_rig redis;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 1, .window = 1h}, remembers(10min, 64)};
  REQUIRE(limiter.acquire(acme, path));
  REQUIRE_FALSE(limiter.acquire(acme, path));
  for (int i = 0; i < 500; ++i) {
    REQUIRE(limiter.acquire(acme, path).source == decision_source::denial_cache);
    const std::string other = "/p/" + std::to_string(i);
    REQUIRE(limiter.acquire(acme, other));
    REQUIRE_FALSE(limiter.acquire(acme, other));
  }
}

TEST_CASE("a denial of several limits is remembered as a whole") {
  const redis_rig redis;
  tn::rate_limiter both{redis.client,
                        tn::on_failure::fail_closed,
                        {{.limit = 10, .window = 1h}, {.limit = 4, .window = 10min}},
                        remembers()};
  const tn::decision admitted = both.acquire(acme, path, 3);
  REQUIRE(admitted);
  CHECK(admitted.decided_by == 1);  // which has the least left
  CHECK(admitted.remaining == 1);
  const tn::decision told = both.acquire(acme, path, 2);
  const tn::decision d = both.acquire(acme, path, 2);
  REQUIRE_FALSE(told);
  REQUIRE_FALSE(d);
  CHECK(d.source == decision_source::denial_cache);
  CHECK(d.decided_by == told.decided_by);
  CHECK(d.limit == 4);
  CHECK(d.remaining == 1);
  REQUIRE(d.limits.size() == 2);
  CHECK(d.limits[0].remaining == 7);
  CHECK(d.limits[0].retry_after == std::optional{0ms});
  CHECK(d.limits[1].remaining == 1);
  CHECK(d.limits[1].retry_after <= told.limits[1].retry_after);
  CHECK(d.limits[0].reset_after <= told.limits[0].reset_after);
  CHECK(d.limits[0].reset_after > 59min);
  CHECK(both.acquire(acme, path, 1));
}

TEST_CASE("a denied acquire does not keep acquire_up_to from what is left, and nothing left is remembered") {
  const redis_rig redis;
  used_up of{redis, {.limit = 5, .window = 1h}};
  CHECK(of.limiter.refund(acme, path, 2).granted == 2);
  CHECK_FALSE(of.limiter.acquire(acme, path, 4));
  CHECK_FALSE(of.limiter.acquire(acme, path, 4));
  CHECK(of.limiter.acquire_up_to(acme, path, 4).granted == 2);
  const tn::decision none = of.limiter.acquire_up_to(acme, path, 4);
  CHECK_FALSE(none);
  CHECK(none.cost == 4);
  CHECK(of.calls([&] {
    const tn::decision again = of.limiter.acquire_up_to(acme, path, 4);
    CHECK_FALSE(again);
    CHECK(again.cost == 4);
    CHECK(again.granted == 0);
    CHECK(again.source == decision_source::denial_cache);
  }) == 0);
  CHECK(of.limiter.refund(acme, path, 1).granted == 1);
  CHECK(of.limiter.acquire_up_to(acme, path, 4).granted == 1);
}

TEST_CASE("without a memory Redis is asked each time") {
  const redis_rig redis;
  used_up of{redis, {.limit = 3, .window = 1h}, asks_always()};
  CHECK(of.calls([&] {
    for (int i = 0; i < 10; ++i) CHECK(of.limiter.acquire(acme, path).source == decision_source::redis);
  }) == 10);
}

TEST_CASE("a policy's denial is not remembered: once Redis is back it decides") {
  support::need_redis();
  tn::testing::redis_server server;
  const tn::client redis{support::lasting(server.url())};
  tn::rate_limiter limiter{redis,
                           tn::on_failure::fail_closed,
                           {.limit = 3, .window = 1h},
                           {.timeout = 1s, .denial_cache = tn::denial_cache_options{.max_age = 10min}}};
  server.kill();
  for (int i = 0; i < 3; ++i) CHECK(limiter.acquire(acme, path).source == decision_source::fail_closed);
  server.start();
  CHECK(support::eventually([&] { return limiter.acquire(acme, path).allowed; }));
}

TEST_CASE("a limit of 0 is decided without a round trip") {
  const redis_rig redis;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_open, {.limit = 0, .window = 1h}, asks_always()};
  redis.client.execute("CONFIG", "RESETSTAT");
  for (int i = 0; i < 3; ++i) {
    const tn::decision d = limiter.acquire(acme, path);
    CHECK_FALSE(d);
    CHECK_FALSE(d.retry_after);
  }
  CHECK(support::script_calls(redis.client) == 0);
}

TEST_CASE("what is told from memory is still true after this process has acquired another cost") {
  const redis_rig redis;
  used_up of{redis, {.limit = 5, .window = 1h}};
  CHECK(of.limiter.refund(acme, path, 2).granted == 2);
  const tn::decision before = of.limiter.acquire(acme, path, 5);
  REQUIRE_FALSE(before);
  CHECK(before.remaining == 2);
  std::this_thread::sleep_for(20ms);
  REQUIRE(of.limiter.acquire(acme, path, 2));
  const tn::decision d = of.limiter.acquire(acme, path, 5);
  REQUIRE_FALSE(d);
  CHECK(d.remaining == 0);
  CHECK(*d.retry_after > 1h - 15ms);  // until the two that came last are free again
}

TEST_CASE("a memory of any age is one") {
  const redis_rig redis;
  used_up of{redis, {.limit = 3, .window = 1h}, remembers(std::chrono::milliseconds::max())};
  REQUIRE_FALSE(of.limiter.acquire(acme, path));
  CHECK(of.limiter.acquire(acme, path).source == decision_source::denial_cache);
}

TEST_CASE("a timeout that never passes is one") {
  const redis_rig redis;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 3, .window = 1h}, {.timeout = tn::no_timeout}};
  CHECK(limiter.acquire(acme, path).source == decision_source::redis);
  CHECK(tn::sync_wait(limiter.async_acquire(acme, std::string{path})).source == decision_source::redis);
  CHECK(limiter.peek(acme, path).source == decision_source::redis);
}
