// A concurrency limiter against a real server that answers: what is promised then.

#include "limiting/scripts.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/processes.hpp"
#include "support/redis_probe.hpp"
#include "support/sanitized.hpp"

#include <tenantry/client.hpp>
#include <tenantry/concurrency_limiter.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::redis_rig;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};
const std::string exports_key = "permits:{acme}:exports";

/// Renewed each third of it, so that the machine may stand still for the rest.
constexpr std::chrono::milliseconds kept = support::sanitized ? 4s : 2s;

tn::concurrency_options places(std::uint64_t limit, std::chrono::milliseconds lease = 60s) {
  return {.limit = limit, .lease = lease, .timeout = 20s};
}

std::int64_t members(const redis_rig& redis) { return redis.client.execute("ZCARD", exports_key).integer(); }

/// Everything that Redis has of the key, and what it would tell a replica or write to a file.
std::string everything(const redis_rig& redis) {
  const std::string changes = redis.client.execute("INFO", "persistence").str();
  return redis.client.execute("DUMP", exports_key).str() +
         std::to_string(redis.client.execute("PEXPIRETIME", exports_key).integer()) +
         changes.substr(changes.find("rdb_changes_since_last_save"), 45);
}

/// For as long as several leases take, no permit is free.
void check_stays(tn::concurrency_limiter& other, std::chrono::milliseconds lease) {
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() < begin + 2 * lease) {
    CHECK_FALSE(other.acquire(acme, "exports"));
    std::this_thread::sleep_for(lease / 20);
  }
}

/// The script that gives permits, at times that the test chooses.
struct at_times {
  const redis_rig& redis;

  [[nodiscard]] std::pair<bool, std::int64_t> acquire(std::string_view id, std::int64_t limit, std::int64_t life,
                                                      std::int64_t now) const {
    const tn::reply got = redis.client.eval(tn::detail::scripts::acquire_permit(), {exports_key},
                                            {std::string{id} + ':' + std::to_string(life), std::to_string(limit),
                                             std::to_string(life), std::to_string(now)});
    return {got[0].integer() == 1, got[1].integer()};
  }
  [[nodiscard]] bool renew(std::string_view id, std::int64_t life, std::int64_t now) const {
    const tn::reply got =
        redis.client.eval(tn::detail::scripts::renew_permits(), {exports_key},
                          {std::to_string(life), std::to_string(now), std::string{id} + ':' + std::to_string(life)});
    return got[0].integer() == 1;
  }
  [[nodiscard]] std::int64_t in_use(std::int64_t now) const {
    return redis.client.eval(tn::detail::scripts::permits_in_use(), {exports_key}, {std::to_string(now)}).integer();
  }
  [[nodiscard]] std::int64_t life() const { return redis.client.execute("PTTL", exports_key).integer(); }
};

}  // namespace

TEST_CASE("processes and threads together never hold more permits than the limit, and it is reached") {
  support::need_redis();
  const tn::testing::redis_server server;
  constexpr int limit = 5;
  struct counts {
    std::atomic<int> now{0};
    std::atomic<int> most{0};
    std::atomic<int> granted{0};
    std::atomic<int> unanswered{0};
    std::atomic<int> lost{0};
  };
  const support::shared_memory<counts> shared;
  std::vector<support::process> running;
  for (int i = 0; i < 4; ++i) {
    running.emplace_back([&] {
      const tn::client redis{server.url()};
      tn::concurrency_limiter limiter{redis, tn::on_failure::fail_closed, places(limit, 10s)};
      std::vector<std::thread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
          for (int round = 0; round < 150; ++round) {
            const tn::permit p =
                t % 2 == 0 ? limiter.acquire(acme, "exports") : tn::sync_wait(limiter.async_acquire(acme, "exports"));
            if (p.failure()) ++shared->unanswered;
            if (!p) continue;
            const int now = ++shared->now;
            int most = shared->most;
            while (now > most && !shared->most.compare_exchange_weak(most, now)) {
            }
            ++shared->granted;
            std::this_thread::sleep_for(1ms);
            if (p.lost()) ++shared->lost;
            --shared->now;
          }
        });
      }
      for (std::thread& each : threads) each.join();
      return 0;
    });
  }
  for (support::process& each : running) CHECK(each.result() == 0);
  CHECK(shared->unanswered == 0);
  CHECK(shared->lost == 0);
  CHECK(shared->most == limit);
  CHECK(shared->granted > limit);
}

TEST_CASE("what a process holds that is killed is free within a lease, and not before") {
  const redis_rig rig;
  struct board {
    std::atomic<int> held{0};
  };
  const support::shared_memory<board> shared;
  support::process holder{[&] {
    const tn::client redis{redis_rig::server().url()};
    tn::concurrency_limiter limiter{redis, tn::on_failure::fail_closed, places(2, kept)};
    const tn::permit one = limiter.acquire(acme, "exports");
    const tn::permit two = limiter.acquire(acme, "exports");
    shared->held = one && two ? 2 : -1;
    std::this_thread::sleep_for(60s);
    return 0;
  }};
  REQUIRE(eventually([&] { return shared->held != 0; }));
  REQUIRE(shared->held == 2);
  tn::concurrency_limiter limiter{rig.client, tn::on_failure::fail_closed, places(2, kept)};
  check_stays(limiter, kept);  // longer than its lease
  holder.kill();
  const auto killed = std::chrono::steady_clock::now();
  CHECK_FALSE(limiter.acquire(acme, "exports"));
  CHECK(eventually([&] { return bool{limiter.acquire(acme, "exports")}; }));
  CHECK(std::chrono::steady_clock::now() - killed < 10 * kept);
  CHECK(eventually([&] { return limiter.in_use(acme, "exports") == 0; }));
}

TEST_CASE("a permit that is held for several leases stays, and its key never lives longer than one") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(2, kept)};
  const tn::permit first = limiter.acquire(acme, "exports");
  const tn::permit second = tn::sync_wait(limiter.async_acquire(acme, "exports"));
  REQUIRE(first);
  REQUIRE(second);
  CHECK(first.in_use() == 1);
  CHECK(second.in_use() == 2);
  CHECK(second.limit() == 2);
  CHECK(second.source() == tn::decision_source::redis);
  tn::client elsewhere{redis_rig::server().url()};
  tn::concurrency_limiter other{elsewhere, tn::on_failure::fail_closed, places(2, kept)};
  check_stays(other, kept);
  const auto life = redis.client.execute("PTTL", exports_key).integer();
  CHECK(life > 0);
  CHECK(life <= kept.count());
  CHECK_FALSE(first.lost());
  CHECK_FALSE(second.lost());
  CHECK(limiter.in_use(acme, "exports") == 2);
}

TEST_CASE("many permits of many times are renewed together, in few writes") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(1'000, 3 * kept / 2)};
  std::vector<tn::permit> held;
  for (int i = 0; i < 1'000; ++i) {
    held.push_back(limiter.acquire(acme, i % 2 == 0 ? "exports" : "imports"));
    REQUIRE(held.back());
    std::this_thread::sleep_for(500us);
  }
  const auto before = redis.calls("eval");  // each write begins with one
  const auto begin = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(2 * kept);  // more than a lease
  const auto passed = std::chrono::steady_clock::now() - begin;
  CHECK(redis.calls("eval") - before <= static_cast<std::uint64_t>(2 * (passed / 125ms + 2)));
  for (const tn::permit& each : held) REQUIRE_FALSE(each.lost());
  CHECK(limiter.in_use(acme, "exports") == 500);
}

TEST_CASE("nothing is renewed while no permit lives longer than a third of its lease") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(2, 60s)};
  for (int i = 0; i < 50; ++i) CHECK(limiter.acquire(acme, "exports"));
  for (const auto& lane : redis.client.metrics().lanes) {
    if (lane.name != "blocking") CHECK(lane.commands == 0);
  }
  CHECK(members(redis) == 0);
}

TEST_CASE("a thousand denials and looks change nothing in Redis") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(1, 1h)};
  const tn::permit held = limiter.acquire(acme, "exports");
  const std::string before = everything(redis);
  for (int i = 0; i < 1'000; ++i) {
    REQUIRE_FALSE(limiter.acquire(acme, "exports"));
    REQUIRE(limiter.in_use(acme, "exports") == 1);
    REQUIRE(limiter.in_use(acme, "imports") == 0);
  }
  CHECK(everything(redis) == before);
  CHECK(redis.client.execute("DBSIZE").integer() == 1);
  const tn::permit denied = limiter.acquire(acme, "exports");
  CHECK(denied.in_use() == 1);
  CHECK(denied.source() == tn::decision_source::redis);
  CHECK(denied.failure() == nullptr);
  CHECK_FALSE(denied.lost());
}

TEST_CASE("a limit of 0 gives no permits") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_open, places(0)};
  CHECK_FALSE(limiter.acquire(acme, "exports"));
  CHECK(redis.client.execute("DBSIZE").integer() == 0);
}

TEST_CASE("hostile names and tenants have places of their own, all in the tenant's slot, and all expire") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(1)};
  const std::vector<std::string> names{"a",    "a:b", "{acme}", "}:a", "*", "a#log", "%61", "a b", std::string{"\0", 1},
                                       "\xff", "a?b", "A",      "/",   ":", "a:",    "[a]"};
  std::vector<tn::permit> held;
  for (const tn::tenant_id& tenant : {acme, globex, tn::tenant_id{"a"}, tn::tenant_id{"a.b"}}) {
    for (const std::string& name : names) {
      INFO(name);
      held.push_back(limiter.acquire(tenant, name));
      CHECK(held.back());
      CHECK(held.back().in_use() == 1);
      CHECK_FALSE(limiter.acquire(tenant, name));
    }
  }
  CHECK(redis.client.execute("DBSIZE").integer() == static_cast<std::int64_t>(held.size()));
  const tn::reply keys = redis.client.execute("KEYS", "permits:{acme}:*");
  CHECK(keys.elements().size() == names.size());
  for (const tn::reply& each : keys.elements()) CHECK(redis.client.execute("PTTL", each.str()).integer() > 0);
  CHECK_THROWS_AS(limiter.acquire(acme, ""), tn::invalid_name);
  CHECK_THROWS_AS(limiter.in_use(acme, ""), tn::invalid_name);
  CHECK_THROWS_AS(tn::sync_wait(limiter.async_acquire(acme, "")), tn::invalid_name);
  held.clear();
  CHECK(redis.client.execute("DBSIZE").integer() == 0);
}

TEST_CASE("scripts of permits that the server has forgotten are sent again, and count once") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(10, kept)};
  std::vector<tn::permit> held;
  for (std::uint64_t i = 1; i <= 6; ++i) {
    redis.client.execute("SCRIPT", "FLUSH");
    held.push_back(limiter.acquire(acme, "exports"));
    CHECK(held.back().in_use() == i);
    CHECK(limiter.in_use(acme, "exports") == i);
  }
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() < begin + 3 * kept / 2) {
    redis.client.execute("SCRIPT", "FLUSH");
    CHECK(limiter.in_use(acme, "exports") == 6);
  }
}

TEST_CASE("a place is free at the very time at which it runs out") {
  const redis_rig redis;
  const at_times script{redis};
  CHECK(script.acquire("a", 1, 1'000, 5'000'000) == std::pair{true, std::int64_t{1}});
  CHECK(script.life() <= 1'000);
  CHECK(script.acquire("b", 1, 1'000, 5'000'999) == std::pair{false, std::int64_t{1}});
  CHECK(script.in_use(5'000'999) == 1);
  CHECK(script.in_use(5'001'000) == 0);
  CHECK(script.renew("a", 1'000, 5'001'500));  // nobody has its place
  CHECK(script.in_use(5'002'499) == 1);
  CHECK(script.acquire("b", 1, 1'000, 5'002'500) == std::pair{true, std::int64_t{1}});
  CHECK_FALSE(script.renew("a", 1'000, 5'002'501));
  CHECK(members(redis) == 1);
}

TEST_CASE("a server's clock that steps back keeps no place for longer than its own lease, nor shortens others") {
  const redis_rig redis;
  const at_times script{redis};
  constexpr std::int64_t begin = 1'800'000'000'000;
  constexpr std::int64_t day = 86'400'000;
  REQUIRE(script.acquire("long", 3, 60'000, begin).first);
  REQUIRE(script.acquire("short", 3, 10'000, begin).first);
  const std::string before = everything(redis);
  CHECK(script.acquire("other", 2, 10'000, begin + 1) == std::pair{false, std::int64_t{2}});
  CHECK(everything(redis) == before);  // a longer lease is no step of the clock

  const std::int64_t back = begin - day;
  CHECK(script.acquire("other", 2, 10'000, back) == std::pair{false, std::int64_t{2}});
  CHECK(script.life() <= 60'000);
  CHECK(script.acquire("other", 2, 10'000, back + 9'999) == std::pair{false, std::int64_t{2}});
  CHECK(script.in_use(back + 10'000) == 1);
  CHECK(script.in_use(back + 59'999) == 1);
  CHECK(script.in_use(back + 60'000) == 0);
  CHECK(script.acquire("other", 2, 10'000, back + 10'000) == std::pair{true, std::int64_t{2}});
  CHECK(script.renew("long", 60'000, back + 20'000));
  CHECK(script.in_use(back + 79'999) == 1);
}

TEST_CASE("a permit is lost when another one may have its place, and its end does not take that away") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(1, 600ms)};
  std::optional<tn::permit> first = limiter.acquire(acme, "exports");
  REQUIRE(*first);
  CHECK_FALSE(first->lost());
  redis.client.execute("DEL", exports_key);
  const tn::permit second = limiter.acquire(acme, "exports");
  REQUIRE(second);
  CHECK(eventually([&] { return first->lost(); }));
  CHECK(*first);  // it may have done part of its work
  CHECK_FALSE(second.lost());
  first.reset();
  CHECK(members(redis) == 1);
  CHECK(limiter.in_use(acme, "exports") == 1);
}

TEST_CASE("a permit is given back once, whether it is moved, assigned to, released, or only ends") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(3)};
  tn::permit none;
  CHECK_FALSE(none);
  CHECK_FALSE(none.lost());
  none.release();
  {
    tn::permit a = limiter.acquire(acme, "exports");
    tn::permit b{std::move(a)};
    CHECK_FALSE(a);  // NOLINT(bugprone-use-after-move): what it promises
    CHECK(b);
    CHECK(members(redis) == 1);
    tn::permit c = limiter.acquire(acme, "exports");
    CHECK(members(redis) == 2);
    c = std::move(b);
    CHECK(c);
    CHECK(members(redis) == 1);
    tn::permit& itself = c;
    c = std::move(itself);
    CHECK(c);
    CHECK(members(redis) == 1);
    const tn::permit d = limiter.acquire(acme, "exports");
    c.release();
    CHECK_FALSE(c);
    CHECK(members(redis) == 1);
    c.release();
    CHECK(members(redis) == 1);
  }
  CHECK(members(redis) == 0);
}

TEST_CASE("a permit of the async face is given back by its end, by a task, and where that task never runs") {
  const redis_rig redis;
  tn::concurrency_limiter limiter{redis.client, tn::on_failure::fail_closed, places(2)};
  CHECK(tn::sync_wait(limiter.async_acquire(acme, "exports")));
  CHECK(eventually([&] { return members(redis) == 0; }));

  tn::permit waited = tn::sync_wait(limiter.async_acquire(acme, "exports"));
  CHECK(tn::sync_wait(limiter.async_in_use(acme, "exports")) == 1);
  tn::sync_wait(waited.async_release());
  CHECK_FALSE(waited);
  CHECK(members(redis) == 0);  // at once
  tn::sync_wait(waited.async_release());

  tn::permit dropped = tn::sync_wait(limiter.async_acquire(acme, "exports"));
  { auto never = dropped.async_release(); }
  CHECK(eventually([&] { return members(redis) == 0; }));

  tn::permit blocking = limiter.acquire(acme, "exports");
  tn::sync_wait(blocking.async_release());
  CHECK(members(redis) == 0);
}
