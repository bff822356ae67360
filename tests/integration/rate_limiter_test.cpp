// A rate limiter against a real server, alone and with others.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/processes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::redis_rig;
using tn::limit_kind;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};
constexpr tn::limiter_options patient{.timeout = 20s};

constexpr std::string_view key_end(limit_kind kind) {
  return kind == limit_kind::sliding_log ? "#log" : kind == limit_kind::segmented_log ? "#seg" : "#gcra";
}

}  // namespace

TEST_CASE("a limit is for one tenant and one path, and is reached exactly, with each kind") {
  const redis_rig redis;
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log, limit_kind::gcra}) {
    redis.client.execute("FLUSHALL");
    tn::rate_limiter limiter{
        redis.client, tn::on_failure::fail_closed, {.limit = 5, .window = 10min, .kind = kind}, patient};
    CHECK(limiter.kind() == kind);
    for (std::uint64_t i = 0; i < 5; ++i) {
      const tn::decision d = limiter.acquire(acme, "/api/kpi");
      CHECK(d);
      CHECK(d.source == tn::decision_source::redis);
      CHECK(d.limit == 5);
      CHECK(d.remaining == 4 - i);
      CHECK(d.retry_after == std::optional{0ms});
      CHECK(d.failure == nullptr);
    }
    const tn::decision denied = limiter.acquire(acme, "/api/kpi");
    CHECK_FALSE(denied);
    CHECK(denied.remaining == 0);
    CHECK(denied.granted == 0);
    REQUIRE(denied.retry_after);
    CHECK(*denied.retry_after > 0ms);
    CHECK(*denied.retry_after <= 10min + 10s);
    CHECK(denied.next_in <= *denied.retry_after);
    CHECK(denied.reset_after >= *denied.retry_after);
    CHECK(limiter.acquire(globex, "/api/kpi"));
    CHECK(limiter.acquire(acme, "/api/other"));
    CHECK(redis.client.execute("EXISTS", "ratelimit:{acme}:/api/kpi" + std::string{key_end(kind)}).integer() == 1);
  }
}

TEST_CASE(
    "ten thousand denials and peeks leave the server's keys, their lives and its replication stream as they are") {
  const redis_rig redis;
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log, limit_kind::gcra}) {
    redis.client.execute("FLUSHALL");
    tn::rate_limiter limiter{
        redis.client, tn::on_failure::fail_closed, {.limit = 3, .window = 1h, .kind = kind}, patient};
    for (int i = 0; i < 3; ++i) CHECK(limiter.acquire(acme, "/"));
    const std::string key = "ratelimit:{acme}:/" + std::string{key_end(kind)};
    const auto life = redis.client.execute("PEXPIRETIME", key).integer();
    const std::string bytes = redis.client.execute("GET", key).str();
    const auto changes = redis.client.execute("INFO", "persistence").str();
    const auto dirty = changes.substr(changes.find("rdb_changes_since_last_save"), 45);
    for (int i = 0; i < 5'000; ++i) {
      REQUIRE_FALSE(limiter.acquire(acme, "/"));
      REQUIRE_FALSE(limiter.peek(acme, "/"));
    }
    CHECK(redis.client.execute("PEXPIRETIME", key).integer() == life);
    CHECK(redis.client.execute("GET", key).str() == bytes);
    CHECK(redis.client.execute("DBSIZE").integer() == 1);
    const auto after = redis.client.execute("INFO", "persistence").str();
    CHECK(after.substr(after.find("rdb_changes_since_last_save"), 45) == dirty);
  }
}

TEST_CASE("processes and threads together are admitted exactly as often as the limit says") {
  support::need_redis();
  const tn::testing::redis_server server;
  struct counts {
    std::atomic<std::uint64_t> admitted{0};
    std::atomic<std::uint64_t> unanswered{0};
  };
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log}) {
    const support::shared_memory<counts> shared;
    std::vector<support::process> running;
    for (int p = 0; p < 4; ++p) {
      running.emplace_back([&] {
        const tn::client redis{server.url()};
        tn::rate_limiter limiter{
            redis, tn::on_failure::fail_closed, {.limit = 200, .window = 10min, .kind = kind}, patient};
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; ++t) {
          threads.emplace_back([&] {
            for (int i = 0; i < 100; ++i) {
              const tn::decision d = limiter.acquire(acme, "/busy");
              if (d) ++shared->admitted;
              if (d.failure) ++shared->unanswered;
            }
          });
        }
        for (std::thread& each : threads) each.join();
        return 0;
      });
    }
    for (support::process& each : running) CHECK(each.result() == 0);
    CHECK(shared->unanswered == 0);
    CHECK(shared->admitted == 200);
  }
}

TEST_CASE("several limits admit together or not at all, and the decision says which one denied") {
  const redis_rig redis;
  tn::rate_limiter both{
      redis.client, tn::on_failure::fail_closed, {{.limit = 10, .window = 1h}, {.limit = 4, .window = 10min}}, patient};
  CHECK(both.acquire(acme, "/a", 3));
  const tn::decision denied = both.acquire(acme, "/a", 2);
  CHECK_FALSE(denied);
  CHECK(denied.decided_by == 1);
  CHECK(denied.limit == 4);
  REQUIRE(denied.limits.size() == 2);
  CHECK(denied.limits[0].remaining == 7);
  CHECK(denied.limits[1].remaining == 1);
  CHECK(both.acquire(acme, "/a", 1));  // the denied cost was not charged
  const tn::decision never = both.acquire(acme, "/a", 5);
  CHECK_FALSE(never);
  CHECK(never.decided_by == 1);
  CHECK_FALSE(never.retry_after);
  CHECK(never.headers().empty());
}

TEST_CASE("acquire_up_to takes what there is, peek takes nothing, refund gives back, reset forgets") {
  const redis_rig redis;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 10, .window = 1h}, patient};
  CHECK(limiter.peek(acme, "/a").remaining == 10);
  CHECK(redis.client.execute("DBSIZE").integer() == 0);
  CHECK(limiter.acquire_up_to(acme, "/a", 7).granted == 7);
  const tn::decision rest = limiter.acquire_up_to(acme, "/a", 7);
  CHECK(rest);
  CHECK(rest.granted == 3);
  CHECK_FALSE(limiter.acquire_up_to(acme, "/a", 7));
  CHECK_FALSE(limiter.peek(acme, "/a"));
  CHECK(limiter.refund(acme, "/a", 2).granted == 2);
  CHECK(limiter.peek(acme, "/a", 2));
  CHECK_FALSE(limiter.peek(acme, "/a", 3));
  limiter.reset(acme, "/a");
  CHECK(limiter.peek(acme, "/a").remaining == 10);
  limiter.set_limits({{.limit = 2, .window = 1h}});
  CHECK(limiter.acquire(acme, "/a", 2));
  CHECK_FALSE(limiter.acquire(acme, "/a"));
  CHECK(support::thrown_by([&] { limiter.set_limits({}); }));
  CHECK(tn::sync_wait(limiter.async_peek(acme, "/a")).remaining == 0);
  CHECK(tn::sync_wait(limiter.async_refund(acme, "/a", 1)).granted == 1);
  CHECK(tn::sync_wait(limiter.async_acquire(acme, "/a")));
  CHECK_FALSE(tn::sync_wait(limiter.async_acquire(acme, "/a")));
  tn::sync_wait(limiter.async_reset(acme, "/a"));
  CHECK(tn::sync_wait(limiter.async_acquire_up_to(acme, "/a", 9)).granted == 2);
}

TEST_CASE("a limit of 0 admits nothing, ever") {
  const redis_rig redis;
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log, limit_kind::gcra}) {
    tn::rate_limiter limiter{redis.client, tn::on_failure::fail_open, {.limit = 0, .kind = kind}, patient};
    const tn::decision d = limiter.acquire(acme, "/a");
    CHECK_FALSE(d);
    CHECK_FALSE(d.retry_after);
    CHECK(d.remaining == 0);
    CHECK(redis.client.execute("DBSIZE").integer() == 0);
  }
}

TEST_CASE("hostile paths have keys of their own, and a query belongs to none") {
  const redis_rig redis;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 1, .window = 1h}, patient};
  const std::vector<std::string> paths{"",
                                       "/",
                                       "/a",
                                       "/a/",
                                       "a",
                                       "/a:b",
                                       "/{acme}",
                                       "}:/a",
                                       "/*",
                                       "/a#log",
                                       "/%2F",
                                       "/a b",
                                       std::string{"/\0", 2},
                                       "/\xff",
                                       "//a",
                                       "#log",
                                       "/A"};
  for (const std::string& path : paths) {
    INFO(path);
    CHECK(limiter.acquire(acme, path));
    CHECK_FALSE(limiter.acquire(acme, path));
    CHECK_FALSE(limiter.acquire(acme, path + "?page=2"));
  }
  CHECK(redis.client.execute("DBSIZE").integer() == static_cast<std::int64_t>(paths.size()));
  tn::rate_limiter spread{redis.client,
                          tn::on_failure::fail_closed,
                          {.limit = 1, .window = 1h},
                          {.timeout = 20s, .placement = tn::limit_placement::path}};
  CHECK(spread.acquire(acme, "/x"));
  CHECK(redis.client.execute("EXISTS", "ratelimit:{acme:/x}#log").integer() == 1);
}

TEST_CASE("a script that the server has forgotten is sent again, and counts once") {
  const redis_rig redis;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 10, .window = 1h}, patient};
  for (std::uint64_t left = 9; left > 0; --left) {
    redis.client.execute("SCRIPT", "FLUSH");
    CHECK(limiter.acquire(acme, "/a").remaining == left);
  }
}

TEST_CASE("when Redis is away the policy decides, and says why; when it is back Redis does again") {
  support::need_redis();
  tn::testing::redis_server server;
  const tn::client redis{server.url()};
  tn::rate_limiter open{redis, tn::on_failure::fail_open, {.limit = 4, .window = 1h}};
  tn::rate_limiter closed{redis, tn::on_failure::fail_closed, {.limit = 4, .window = 1h}};
  tn::rate_limiter insured{redis, tn::on_failure::insurance(2), {.limit = 4, .window = 1h}};
  server.kill();
  for (int i = 0; i < 3; ++i) {
    const tn::decision a = open.acquire(acme, "/a");
    CHECK(a);
    CHECK(a.source == tn::decision_source::fail_open);
    CHECK(a.failure != nullptr);
    CHECK(a.headers(tn::header_style::ietf).empty());
    const tn::decision b = closed.acquire(acme, "/a");
    CHECK_FALSE(b);
    CHECK(b.source == tn::decision_source::fail_closed);
    CHECK(b.headers() == std::vector<std::pair<std::string, std::string>>{{"Retry-After", "1"}});
    const tn::decision c = insured.acquire(acme, "/a");
    CHECK(c.allowed == (i < 2));  // its share
    CHECK(c.source == tn::decision_source::insurance);
    CHECK(c.limit == 2);
  }
  CHECK(insured.acquire(globex, "/a"));
  server.start();
  CHECK(support::eventually([&] { return open.acquire(acme, "/b").source == tn::decision_source::redis; }));
}

TEST_CASE("a key of another type is a failure, and nothing is thrown into the request") {
  const redis_rig redis;
  redis.client.execute("LPUSH", "ratelimit:{acme}:/a#log", "foreign");
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_open, {.limit = 4, .window = 1h}, patient};
  const tn::decision d = limiter.acquire(acme, "/a");
  CHECK(d);
  REQUIRE(d.failure != nullptr);
  CHECK(d.failure->code() == tn::errc::wrong_type);
}

TEST_CASE("limits that cannot be are refused when the limiter is made, by name") {
  const redis_rig redis;
  const auto refused = [&](std::vector<tn::rate_limit> limits, tn::limiter_options how = {}) {
    try {
      if (limits.size() == 1) {
        tn::rate_limiter{redis.client, tn::on_failure::fail_open, limits[0], how};
      } else {
        tn::rate_limiter{redis.client, tn::on_failure::fail_open, {limits[0], limits[1]}, how};
      }
    } catch (const tn::invalid_option& why) {
      return std::string{why.what()};
    }
    return std::string{};
  };
  CHECK(refused({{.window = 0ms}}).find("rate_limit.window") == 0);
  CHECK(refused({{.window = std::chrono::days{400}}}).find("rate_limit.window") == 0);
  CHECK(refused({{.limit = 2'000'000, .kind = limit_kind::sliding_log}}).find("rate_limit.limit") == 0);
  CHECK(refused({{.limit = 5'000'000'000}}).find("rate_limit.limit") == 0);
  CHECK(refused({{.burst = 5}}).find("rate_limit.burst") == 0);
  CHECK(refused({{.kind = limit_kind::gcra, .burst = 0}}).find("rate_limit.burst") == 0);
  CHECK(refused({{.kind = limit_kind::gcra}, {.kind = limit_kind::sliding_log}}).find("rate_limit.kind") == 0);
  CHECK(refused({{}}, {.timeout = 0ms}).find("limiter_options.timeout") == 0);
  CHECK(refused({{.limit = 1000}}).empty());
  CHECK_THROWS_AS(tn::on_failure::insurance(0), tn::invalid_option);
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_open, {.limit = 1001}};
  CHECK(limiter.kind() == limit_kind::segmented_log);
  const tn::decision never = limiter.acquire(acme, "/a", 5'000'000'000);  // more than any limit, and nothing is thrown
  CHECK_FALSE(never);
  CHECK_FALSE(never.retry_after);
}
