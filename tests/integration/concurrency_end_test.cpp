// A concurrency limiter when something ends or fails: Redis, answers on their way, the limiter, the client, threads.

#include "support/async_calls.hpp"
#include "support/cache_rig.hpp"
#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/no_threads.hpp"
#include "support/redis_probe.hpp"
#include "support/sanitized.hpp"

#include <tenantry/client.hpp>
#include <tenantry/concurrency_limiter.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::fault_proxy;
using support::flow;
using support::redis_rig;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};
const std::string exports_key = "permits:{acme}:exports";

/// Renewed each third of it, so that the machine may stand still for the rest.
constexpr std::chrono::milliseconds kept = support::sanitized ? 4s : 2s;

constexpr tn::concurrency_options places(std::uint64_t limit, std::chrono::milliseconds lease = 1h,
                                         std::chrono::milliseconds timeout = 20s) {
  return {.limit = limit, .lease = lease, .timeout = timeout};
}

tn::client_options patient(const std::string& url = redis_rig::server().url()) {
  auto options = tn::client_options::from_url(url);
  options.timeout = 20s;
  options.stall_limit = 1h;  // connections end where a test says so
  options.breaker.consecutive_failures = 1'000'000;
  return options;
}

std::int64_t members(const redis_rig& redis) { return redis.client.execute("ZCARD", exports_key).integer(); }

tn::permit acquired(tn::concurrency_limiter& from, bool async) {
  return async ? tn::sync_wait(from.async_acquire(acme, "exports")) : from.acquire(acme, "exports");
}

}  // namespace

TEST_CASE("when Redis is away the policy decides about permits, and says why; when it is back Redis does again") {
  support::need_redis();
  tn::testing::redis_server server;
  const tn::client redis{server.url()};
  const tn::client another{server.url()};
  tn::concurrency_limiter open{redis, tn::on_failure::fail_open, {.limit = 4}};
  tn::concurrency_limiter closed{redis, tn::on_failure::fail_closed, {.limit = 4}};
  tn::concurrency_limiter insured{redis, tn::on_failure::insurance(2), {.limit = 4}};
  tn::concurrency_limiter tiny{another, tn::on_failure::insurance(9), {.limit = 4}};
  tn::concurrency_limiter none{another, tn::on_failure::insurance(9), {.limit = 0}};
  server.kill();
  std::vector<tn::permit> held;
  for (int i = 0; i < 4; ++i) {
    const bool async = i % 2 == 1;
    const tn::permit a = acquired(open, async);
    CHECK(a);
    CHECK(a.source() == tn::decision_source::fail_open);
    CHECK(a.failure() != nullptr);
    CHECK(a.in_use() == 0);
    CHECK_FALSE(a.lost());
    const tn::permit b = acquired(closed, async);
    CHECK_FALSE(b);
    CHECK(b.source() == tn::decision_source::fail_closed);
    CHECK(b.failure() != nullptr);
    held.push_back(acquired(insured, async));
    CHECK(bool{held.back()} == (i < 2));  // its share
    CHECK(held.back().source() == tn::decision_source::insurance);
    CHECK(held.back().limit() == 2);
    CHECK(held.back().in_use() == (i == 0 ? 1U : 2U));
    CHECK_FALSE(held.back().lost());
    CHECK_FALSE(acquired(none, async));
  }
  CHECK(insured.acquire(globex, "exports"));
  CHECK(insured.acquire(acme, "imports"));
  held[0].release();
  CHECK(insured.acquire(acme, "exports"));
  tn::sync_wait(held[1].async_release());
  CHECK(insured.acquire(acme, "exports").in_use() == 1);
  const tn::permit only = tiny.acquire(acme, "exports");
  CHECK(only);
  CHECK_FALSE(tiny.acquire(acme, "exports"));
  CHECK_THROWS_AS(open.in_use(acme, "exports"), tn::error);
  REQUIRE(eventually([&] { return open.acquire(acme, "b").failure()->execution() == tn::execution::not_sent; }));
  CHECK(std::string{open.acquire(acme, "b").failure()->what()}.find("breaker") != std::string::npos);
  server.start();
  CHECK(eventually([&] { return open.acquire(acme, "b").source() == tn::decision_source::redis; }));
}

TEST_CASE("with insurance what Redis has given to this process counts too") {
  support::need_redis();
  tn::testing::redis_server server;
  const tn::client redis{server.url()};
  tn::concurrency_limiter limiter{redis, tn::on_failure::insurance(2), {.limit = 6, .lease = 1h, .timeout = 5s}};
  tn::permit one = limiter.acquire(acme, "exports");
  const tn::permit two = tn::sync_wait(limiter.async_acquire(acme, "exports"));
  REQUIRE(one.source() == tn::decision_source::redis);
  REQUIRE(two.source() == tn::decision_source::redis);
  server.kill();
  tn::concurrency_limiter brief{redis, tn::on_failure::insurance(2), {.limit = 6}};
  const tn::permit three = brief.acquire(acme, "exports");
  CHECK(three.source() == tn::decision_source::insurance);
  CHECK(three);
  CHECK(three.in_use() == 3);
  CHECK_FALSE(brief.acquire(acme, "exports"));
}

TEST_CASE("an acquire whose answer was lost keeps no place, long before its lease is over") {
  const support::must_end ends;
  const redis_rig redis;
  for (const bool async : {false, true}) {
    fault_proxy proxy{redis_rig::server().port()};
    const tn::client client{patient(proxy.url())};
    tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(1, 1h, 300ms)};
    CHECK(eventually([&] { return acquired(limiter, async).source() == tn::decision_source::redis; }));
    CHECK(eventually([&] { return members(redis) == 0; }));
    proxy.apply(flow::to_client, {.carries = support::faults::transport::swallows}, support::reach::open);
    const tn::permit unknown = acquired(limiter, async);
    CHECK_FALSE(unknown);
    REQUIRE(unknown.failure());
    CHECK(unknown.failure()->execution() == tn::execution::unknown);
    proxy.reset();
    proxy.heal();
    CHECK(eventually([&] { return members(redis) == 0; }));
  }
}

TEST_CASE("an acquire whose connection is lost is not sent again, and keeps no place") {
  const support::must_end ends;
  const redis_rig redis;
  for (const bool async : {false, true}) {
    fault_proxy proxy{redis_rig::server().port()};
    const tn::client client{patient(proxy.url())};
    tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(1)};
    REQUIRE(acquired(limiter, async));
    CHECK(eventually([&] { return members(redis) == 0; }));
    const auto before = redis.calls("evalsha");
    proxy.apply(flow::to_client, {.carries = support::faults::transport::swallows}, support::reach::open);
    auto asking = support::on_thread([&] { return acquired(limiter, async); });
    CHECK(eventually([&] { return redis.calls("evalsha") == before + 1; }));
    CHECK(members(redis) == 1);
    proxy.reset();
    proxy.heal();
    const tn::permit unknown = asking.get();
    CHECK_FALSE(unknown);
    REQUIRE(unknown.failure());
    CHECK(unknown.failure()->execution() == tn::execution::unknown);
    CHECK(eventually([&] { return members(redis) == 0; }));
    CHECK(redis.calls("evalsha") == before + 1);
  }
}

TEST_CASE("an acquire that reaches Redis after what gives it back keeps no place either") {
  const support::must_end ends;
  const redis_rig redis;
  fault_proxy proxy{redis_rig::server().port()};
  const tn::client client{patient(proxy.url())};
  tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(1, 1h, 300ms)};
  CHECK(eventually([&] { return acquired(limiter, false).source() == tn::decision_source::redis; }));
  proxy.apply(flow::to_server, {.carries = support::faults::transport::holds}, support::reach::open);
  const auto given_back = redis.calls("zrem");
  const auto acquired_before = redis.calls("evalsha");
  CHECK_FALSE(acquired(limiter, false));  // its command is on its way; the keeper's come by another connection
  CHECK(eventually([&] { return redis.calls("zrem") > given_back + 1; }));
  CHECK(redis.calls("evalsha") == acquired_before);
  proxy.heal();
  CHECK(eventually([&] { return redis.calls("evalsha") > acquired_before; }));
  CHECK(eventually([&] { return members(redis) == 0; }));
}

TEST_CASE("a permit whose end Redis does not answer is given back as soon as it does, and its end is prompt") {
  const support::must_end ends;
  const redis_rig redis;
  fault_proxy proxy{redis_rig::server().port()};
  const tn::client client{patient(proxy.url())};
  tn::concurrency_limiter patient_one{client, tn::on_failure::fail_closed, places(2)};
  tn::permit gone = patient_one.acquire(acme, "exports");
  tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(9, 1h, 100ms)};
  std::optional<tn::permit> held;
  CHECK(eventually([&] { return bool{held.emplace(limiter.acquire(acme, "exports"))}; }));
  tn::permit waited = std::move(*held);
  CHECK(eventually([&] { return bool{held.emplace(tn::sync_wait(limiter.async_acquire(acme, "exports")))}; }));
  gone.release();
  CHECK(eventually([&] { return members(redis) == 2; }));
  proxy.refuse();
  proxy.reset();
  waited.release();
  held.reset();
  CHECK_FALSE(waited);
  CHECK(members(redis) == 2);
  proxy.heal();
  CHECK(eventually([&] { return members(redis) == 0; }));
}

TEST_CASE("a permit may outlive its limiter, and is kept and given back all the same") {
  const redis_rig redis;
  for (const bool async : {false, true}) {
    const tn::client client{patient()};
    std::optional<tn::concurrency_limiter> limiter;
    limiter.emplace(client, tn::on_failure::fail_closed, places(1, 1s));
    tn::permit held = acquired(*limiter, async);
    auto later = limiter->async_in_use(acme, "exports");
    limiter.reset();
    std::this_thread::sleep_for(2 * kept);
    CHECK(held);
    CHECK_FALSE(held.lost());
    CHECK(members(redis) == 1);
    CHECK(tn::sync_wait(std::move(later)) == 1);
    held.release();
    CHECK(eventually([&] { return members(redis) == 0; }));
  }
}

TEST_CASE("a permit may end after its client was closed or destroyed: then its lease gives it back") {
  const redis_rig redis;
  for (const bool async : {false, true}) {
    for (const bool destroyed : {false, true}) {
      const support::must_end ends;
      auto client = std::make_unique<tn::client>(patient());
      tn::concurrency_limiter limiter{*client, tn::on_failure::fail_closed, places(9, 400ms)};
      tn::permit held = acquired(limiter, async);
      tn::permit other = acquired(limiter, async);
      REQUIRE(held);
      client->close();
      if (destroyed) client.reset();
      held.release();
      CHECK(eventually([&] { return other.lost(); }));
      CHECK(eventually([&] { return redis.client.execute("EXISTS", exports_key).integer() == 0; }));
    }
  }
}

TEST_CASE("closing a client does not wait for the permits that are held") {
  const support::must_end ends;
  const redis_rig redis;
  tn::client client{patient()};
  tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(1, 24h)};
  const tn::permit held = limiter.acquire(acme, "exports");
  const auto begin = std::chrono::steady_clock::now();
  client.close(30s);
  CHECK(std::chrono::steady_clock::now() - begin < 20s);
  redis.client.execute("DEL", exports_key);
}

TEST_CASE("in the child of a fork permits give back nothing, and new ones are decided by the policy") {
  const redis_rig redis;
  const tn::client client{patient()};
  tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(4)};
  std::optional<tn::permit> one = limiter.acquire(acme, "exports");
  std::optional<tn::permit> two = tn::sync_wait(limiter.async_acquire(acme, "exports"));
  CHECK(support::in_child([&] {
          one.reset();
          two.reset();
          const tn::permit mine = limiter.acquire(acme, "exports");
          return !mine && mine.failure()->code() == tn::errc::forked ? 0 : 1;
        }) == 0);
  CHECK(members(redis) == 2);
  one.reset();
  two.reset();
  CHECK(eventually([&] { return members(redis) == 0; }));
}

TEST_CASE("permits are kept and given back also while the client's executor runs nothing") {
  const redis_rig redis;
  auto options = patient();
  options.executor = [](std::coroutine_handle<>) {};
  const tn::client client{options};
  tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(4, kept)};
  const tn::permit held = limiter.acquire(acme, "exports");
  std::this_thread::sleep_for(2 * kept);
  CHECK_FALSE(held.lost());
  CHECK(members(redis) == 1);
}

TEST_CASE("permits end on the I/O thread too, where an inline executor runs coroutines") {
  const support::must_end ends;
  const redis_rig redis;
  auto options = patient();
  options.executor = tn::inline_executor();
  const tn::client client{options};
  tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(4)};
  const auto use = [](tn::concurrency_limiter& from) -> tn::task<bool> {
    auto asking = from.async_acquire(acme, "exports");
    const tn::permit held = co_await std::move(asking);
    co_return bool{held};
  };
  for (int i = 0; i < 50; ++i) {
    auto using_it = use(limiter);
    CHECK(tn::sync_wait(std::move(using_it)));
    CHECK(eventually([&] { return members(redis) == 0; }));
  }
}

TEST_CASE("a short lease is kept beside the long ones of another limiter") {
  const redis_rig redis;
  tn::concurrency_limiter hours{redis.client, tn::on_failure::fail_closed, places(4, 1h)};
  tn::concurrency_limiter brief{redis.client, tn::on_failure::fail_closed, places(4, kept)};
  const tn::permit first = hours.acquire(acme, "exports");
  const tn::permit second = brief.acquire(acme, "exports");
  std::this_thread::sleep_for(2 * kept);
  CHECK_FALSE(second.lost());
  CHECK(members(redis) == 2);
  CHECK(brief.in_use(acme, "exports") == 2);
}

TEST_CASE("where no thread can be started a permit is not renewed, and the next one starts it") {
  const redis_rig redis;
  const tn::client client{patient()};
  tn::concurrency_limiter limiter{client, tn::on_failure::fail_closed, places(4, kept)};
  std::optional<tn::permit> first;
  {
    const support::no_threads machine;
    first.emplace(limiter.acquire(acme, "exports"));
    CHECK(*first);
    CHECK(eventually([&] { return first->lost(); }));
  }
  const tn::permit second = limiter.acquire(acme, "exports");
  std::this_thread::sleep_for(2 * kept);
  CHECK_FALSE(second.lost());
}

TEST_CASE("options of a concurrency limiter that cannot be are refused, by name") {
  const redis_rig redis;
  const auto refused = [&](tn::concurrency_options how) {
    try {
      const tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_open, how};
    } catch (const tn::invalid_option& why) {
      return std::string{why.what()};
    }
    return std::string{};
  };
  CHECK(refused({.limit = 1'000'001}).find("concurrency_options.limit") == 0);
  CHECK(refused({.lease = 99ms}).find("concurrency_options.lease") == 0);
  CHECK(refused({.lease = 25h}).find("concurrency_options.lease") == 0);
  CHECK(refused({.timeout = 0ms}).find("concurrency_options.timeout") == 0);
  CHECK(refused({}).empty());
}
