// Requests of one key that share a call of the script: fewer round trips, and the same decisions.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/limiter_rig.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::asks_always;
using support::fault_proxy;
using support::flow;
using support::redis_rig;
using tn::decision_source;
using tn::limit_kind;
using clock = std::chrono::steady_clock;

const std::string path = "/hot";

/// Decisions of many threads, and how long each took.
class crowd {
 public:
  void note(tn::decision d, clock::duration took = {}) {
    const std::lock_guard held{mutex_};
    longest_ = std::max(longest_, took);
    all_.push_back(std::move(d));
  }
  [[nodiscard]] const std::vector<tn::decision>& all() const { return all_; }
  [[nodiscard]] clock::duration longest() const { return longest_; }
  [[nodiscard]] std::uint64_t granted() const {
    return std::accumulate(all_.begin(), all_.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const tn::decision& d) { return sum + d.granted; });
  }
  /// What was left after each that was admitted, the most first.
  [[nodiscard]] std::vector<std::uint64_t> remaining() const {
    std::vector<std::uint64_t> left;
    for (const tn::decision& d : all_) {
      if (d) left.push_back(d.remaining);
    }
    std::ranges::sort(left, std::greater{});
    return left;
  }

 private:
  std::mutex mutex_;
  std::vector<tn::decision> all_;
  clock::duration longest_{};
};

/// What was left after each of as many of this cost, one after another.
std::vector<std::uint64_t> one_after_another(std::uint64_t limit, std::uint64_t cost) {
  std::vector<std::uint64_t> left;
  for (std::uint64_t at = limit; at >= cost; at -= cost) left.push_back(at - cost);
  return left;
}

/// Runs `each` on so many threads, which begin together.
template <class Each>
void together(int threads, Each&& each) {
  std::vector<std::thread> all;
  support::gate begin;
  for (int i = 0; i < threads; ++i) {
    all.emplace_back([&, i] {
      if (begin.wait()) each(i);
    });
  }
  begin.open();
  for (std::thread& one : all) one.join();
}

/// A client behind a proxy, and one that sees the server as it is.
struct proxied {
  explicit proxied(const redis_rig& rig) : direct{rig.client} {}
  const tn::client& direct;
  fault_proxy proxy{redis_rig::server().port()};
  tn::client redis{support::lasting(proxy.url())};
};

}  // namespace

TEST_CASE("many threads on one key are admitted exactly up to the limit, each with what was left after it") {
  const redis_rig redis;
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log}) {
    for (const std::uint64_t cost : {1, 3}) {
      redis.client.execute("FLUSHALL");
      INFO("kind " << int(kind) << ", cost " << cost);
      const std::uint64_t limit = 150 * cost + cost - 1;
      tn::rate_limiter limiter{
          redis.client, tn::on_failure::fail_closed, {.limit = limit, .window = 1h, .kind = kind}, asks_always()};
      crowd seen;
      together(16, [&](int) {
        for (int i = 0; i < 20; ++i) seen.note(limiter.acquire(acme, path, cost));
      });
      CHECK(seen.granted() == 150 * cost);
      CHECK(seen.remaining() == one_after_another(limit, cost));
      for (const tn::decision& d : seen.all()) {
        CHECK(d.source == decision_source::redis);
        CHECK(d.cost == cost);
        CHECK(d.granted == (d ? cost : 0));
        if (d) {
          CHECK(d.retry_after == std::optional{0ms});
          CHECK(d.next_in > 0ms);
          CHECK(d.reset_after >= d.next_in);
        } else {
          CHECK(d.remaining == cost - 1);
          CHECK(d.retry_after > 59min);
        }
      }
      CHECK(limiter.peek(acme, path).remaining == cost - 1);
      const auto counted = limiter.counters();
      CHECK(counted.redis.allowed + counted.redis.denied == 16 * 20 + 1);
    }
  }
}

TEST_CASE("costs that differ are charged right when they come together") {
  const redis_rig redis;
  for (const limit_kind kind : support::all_kinds) {
    redis.client.execute("FLUSHALL");
    tn::rate_limiter limiter{
        redis.client, tn::on_failure::fail_closed, {.limit = 200, .window = 24h, .kind = kind}, asks_always()};
    crowd seen;
    std::atomic<std::uint64_t> paths{0};
    together(15, [&](int t) {
      const std::uint64_t cost = t % 3 == 0 ? 1 : t % 3 == 1 ? 2 : 7;
      for (int i = 0; i < 50; ++i) {
        seen.note(t % 5 == 4 ? limiter.acquire_up_to(acme, path, cost) : limiter.acquire(acme, path, cost));
        if (i < 10) paths += limiter.acquire(acme, "/other", 3).granted;
      }
    });
    INFO("kind " << int(kind));
    CHECK(seen.granted() == 200);
    CHECK(paths == 198);
    for (const tn::decision& d : seen.all()) CHECK(d.failure == nullptr);
  }
}

TEST_CASE("coroutines and threads on one key together are admitted exactly up to the limit") {
  const redis_rig redis;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 300, .window = 1h}, asks_always()};
  crowd seen;
  std::vector<support::under_way<tn::decision>> tasks;
  std::thread threads{[&] {
    together(8, [&](int) {
      for (int i = 0; i < 30; ++i) seen.note(limiter.acquire(acme, path));
    });
  }};
  for (int i = 0; i < 240; ++i) tasks.push_back(support::started(limiter.async_acquire(acme, path)));
  threads.join();
  for (auto& each : tasks) seen.note(each.take());
  CHECK(seen.granted() == 300);
  CHECK(seen.remaining() == one_after_another(300, 1));
}

TEST_CASE("while the server is slow, requests of one key need few calls, and other keys do not wait for them") {
  const redis_rig rig;
  proxied slow{rig};
  tn::rate_limiter limiter{slow.redis, tn::on_failure::fail_closed, {.limit = 200, .window = 1h}, asks_always()};
  (void)limiter.peek(acme, "/warm");
  slow.direct.execute("CONFIG", "RESETSTAT");
  slow.proxy.apply(flow::to_server, {.delay = 50ms});
  crowd seen;
  together(32, [&](int) {
    for (int i = 0; i < 10; ++i) seen.note(limiter.acquire(acme, path));
  });
  CHECK(seen.granted() == 200);
  CHECK(seen.remaining() == one_after_another(200, 1));
  CHECK(support::script_calls(slow.direct) * 5 <= 320);

  slow.direct.execute("CONFIG", "RESETSTAT");
  std::vector<tn::task<tn::decision>> all;
  for (int i = 0; i < 500; ++i) all.push_back(limiter.async_acquire(acme, "/async"));
  std::uint64_t granted = 0;
  for (const tn::decision& d : tn::sync_wait(tn::when_all(std::move(all)))) granted += d.granted;
  CHECK(granted == 200);
  CHECK(support::script_calls(slow.direct) <= 20);
}

TEST_CASE("those who come while a call is held share the next one, whatever becomes of the first") {
  const redis_rig rig;
  proxied held{rig};
  tn::rate_limiter limiter{held.redis, tn::on_failure::fail_closed, {.limit = 1000, .window = 1h}, asks_always()};
  (void)limiter.peek(acme, "/warm");
  const auto before = held.proxy.taken(flow::to_server);
  held.direct.execute("CONFIG", "RESETSTAT");
  held.proxy.apply(flow::to_server, {.carries = support::faults::transport::holds});
  std::vector<support::under_way<tn::decision>> tasks;
  for (int i = 0; i < 100; ++i) tasks.push_back(support::started(limiter.async_acquire(acme, path)));
  CHECK(support::eventually([&] { return held.proxy.taken(flow::to_server) > before; }));
  held.proxy.heal();
  for (auto& each : tasks) CHECK(each.take());
  CHECK(support::script_calls(held.direct) <= 3);
  CHECK(limiter.peek(acme, path).remaining == 900);
}

TEST_CASE("when a call fails, all its requests are decided by the policy, each once") {
  const redis_rig redis;
  redis.client.execute("LPUSH", "ratelimit:{acme}:/hot#log", "foreign");
  for (const auto& policy : {tn::on_failure::fail_open, tn::on_failure::fail_closed, tn::on_failure::insurance(2)}) {
    tn::rate_limiter limiter{redis.client, policy, {.limit = 40, .window = 1h}, asks_always()};
    crowd seen;
    together(8, [&](int) {
      for (int i = 0; i < 5; ++i) seen.note(limiter.acquire(acme, path));
    });
    std::vector<support::under_way<tn::decision>> tasks;
    for (int i = 0; i < 40; ++i) tasks.push_back(support::started(limiter.async_acquire(acme, path)));
    for (auto& each : tasks) seen.note(each.take());
    CHECK(seen.all().size() == 80);
    for (const tn::decision& d : seen.all()) {
      CHECK(d.source == policy.source());
      REQUIRE(d.failure != nullptr);
      CHECK(d.failure->code() == tn::errc::wrong_type);
    }
    const auto allowed = std::ranges::count_if(seen.all(), &tn::decision::allowed);
    CHECK(allowed == (policy.source() == decision_source::fail_open   ? 80
                      : policy.source() == decision_source::insurance ? 20
                                                                      : 0));
  }
}

TEST_CASE("a request that waits for the call before it is decided within its own timeout, not within two") {
  const redis_rig rig;
  proxied held{rig};
  tn::rate_limiter limiter{held.redis,
                           tn::on_failure::fail_closed,
                           {.limit = 1000, .window = 1h},
                           {.timeout = 2s, .denial_cache = std::nullopt}};
  (void)limiter.peek(acme, "/warm");
  (void)tn::sync_wait(limiter.async_peek(acme, "/warm"));
  held.proxy.apply(flow::to_server, {.carries = support::faults::transport::holds});
  crowd seen;
  std::vector<support::under_way<tn::decision>> tasks;
  const auto begin = clock::now();
  for (int i = 0; i < 20; ++i) tasks.push_back(support::started(limiter.async_acquire(acme, "/tasks")));
  together(16, [&](int) {
    const auto from = clock::now();
    tn::decision d = limiter.acquire(acme, path);
    seen.note(std::move(d), clock::now() - from);
  });
  for (auto& each : tasks) seen.note(each.take());
  CHECK(clock::now() - begin < 3900ms);
  CHECK(seen.longest() < 3900ms);
  for (const tn::decision& d : seen.all()) {
    CHECK_FALSE(d);
    CHECK(d.source == decision_source::fail_closed);
    REQUIRE(d.failure != nullptr);
    CHECK(d.failure->code() == tn::errc::timeout);
  }
  held.proxy.heal();
  CHECK(support::eventually([&] { return limiter.acquire(acme, path).source == decision_source::redis; }));
  CHECK(limiter.peek(acme, path).remaining >= 1000 - 17 - 1);  // each counted once, if at all
}

TEST_CASE("a limiter that was set to other limits while a call is on the way decides later requests by the new ones") {
  const redis_rig rig;
  proxied held{rig};
  tn::rate_limiter limiter{held.redis, tn::on_failure::fail_closed, {.limit = 1000, .window = 1h}, asks_always()};
  (void)limiter.peek(acme, "/warm");
  held.proxy.apply(flow::to_server, {.carries = support::faults::transport::holds});
  std::vector<support::under_way<tn::decision>> old;
  for (int i = 0; i < 10; ++i) old.push_back(support::started(limiter.async_acquire(acme, path)));
  limiter.set_limits({{.limit = 5, .window = 1h}});
  std::vector<support::under_way<tn::decision>> fresh;
  for (int i = 0; i < 10; ++i) fresh.push_back(support::started(limiter.async_acquire(acme, path)));
  held.proxy.heal();
  for (auto& each : old) CHECK(each.take().allowed);
  std::uint64_t granted = 0;
  for (auto& each : fresh) {
    const tn::decision d = each.take();
    CHECK(d.limit == 5);
    granted += d.granted;
  }
  CHECK(granted <= 5);
}

TEST_CASE("a request with time left is not decided by the policy because those before it have none") {
  const redis_rig rig;
  proxied held{rig};
  tn::rate_limiter limiter{held.redis,
                           tn::on_failure::fail_closed,
                           {.limit = 1000, .window = 1h},
                           {.timeout = 2s, .denial_cache = std::nullopt}};
  (void)tn::sync_wait(limiter.async_peek(acme, "/warm"));
  held.proxy.apply(flow::to_server, {.carries = support::faults::transport::holds});
  std::vector<support::under_way<tn::decision>> early;
  for (int i = 0; i < 3; ++i) early.push_back(support::started(limiter.async_acquire(acme, path)));
  std::this_thread::sleep_for(1s);
  const auto begin = clock::now();
  auto late = support::started(limiter.async_acquire(acme, path));
  for (auto& each : early) CHECK(each.take().source == decision_source::fail_closed);
  held.proxy.heal();
  const bool in_time = clock::now() - begin < 1700ms;
  const tn::decision d = late.take();
  if (in_time) CHECK(d.source == decision_source::redis);
}

TEST_CASE("coroutines that go on where their call ended share calls as others do") {
  const redis_rig redis;
  auto options = support::lasting(redis_rig::server().url());
  options.executor = tn::inline_executor();
  const tn::client inlined{options};
  tn::rate_limiter limiter{inlined, tn::on_failure::fail_closed, {.limit = 2000, .window = 1h}, asks_always()};
  const auto many = [&](int count) -> tn::task<std::uint64_t> {
    std::uint64_t granted = 0;
    for (int i = 0; i < count; ++i) {
      auto asked = limiter.async_acquire(acme, path);
      const tn::decision d = co_await std::move(asked);
      granted += d.granted;
    }
    co_return granted;
  };
  std::vector<tn::task<std::uint64_t>> all;
  for (int i = 0; i < 100; ++i) all.push_back(many(25));
  std::uint64_t granted = 0;
  for (const std::uint64_t each : tn::sync_wait(tn::when_all(std::move(all)))) granted += each;
  CHECK(granted == 2000);
}
