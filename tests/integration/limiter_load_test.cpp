// Rate limiters under more load than they admit, from several processes, with the server's own time.

#include "support/async_calls.hpp"
#include "support/limiter_rig.hpp"
#include "support/processes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::admissions;
using support::asks_always;
using support::lasting;
using tn::limit_kind;

}  // namespace

TEST_CASE("three times the limit for two windows admits two limits, and no window has more than one") {
  support::need_redis();
  const tn::testing::redis_server server;
  constexpr std::uint64_t limit = 100;
  for (const limit_kind kind : {limit_kind::sliding_log, limit_kind::segmented_log}) {
    for (const bool remembering : {false, true}) {
      tn::client{server.url()}.execute("FLUSHALL");
      const support::shared_memory<admissions> log;
      const std::int64_t begin = admissions::now() + 200'000;
      const std::int64_t end = begin + 1'900'000;  // of two windows of a second
      std::vector<support::process> running;
      for (int p = 0; p < 3; ++p) {
        running.emplace_back([&] {
          const tn::client redis{lasting(server.url())};
          tn::rate_limiter limiter{redis,
                                   tn::on_failure::fail_closed,
                                   {.limit = limit, .window = 1s, .kind = kind},
                                   remembering ? support::remembers() : asks_always()};
          (void)limiter.peek(acme, "/busy");
          while (admissions::now() < begin) std::this_thread::sleep_for(1ms);
          for (std::int64_t asked = admissions::now(); asked < end; asked = admissions::now()) {
            const tn::decision d = limiter.acquire(acme, "/busy");
            if (d.failure) return 1;
            if (const std::int64_t told = admissions::now(); d && told < end) log->note(asked, told, 1);
            std::this_thread::sleep_for(5ms);
          }
          return 0;
        });
      }
      for (support::process& each : running) REQUIRE(each.result() == 0);
      INFO("kind " << int(kind) << (remembering ? ", remembering" : ""));
      CHECK(log->count <= 2 * limit);
      CHECK(log->count >= limit + limit / 2);  // the rest is the machine's
      CHECK(log->most_within(999ms) <= std::int64_t(limit));
    }
  }
}

TEST_CASE("requests of several processes that the server meets in one moment are admitted exactly up to the limit") {
  support::need_redis();
  tn::testing::redis_server server;
  struct counts {
    std::atomic<int> ready{0};
    std::atomic<bool> go{false};
    std::atomic<int> sent{0};
    std::atomic<std::uint64_t> admitted{0};
    std::atomic<std::uint64_t> failures{0};
  };
  for (const limit_kind kind : support::all_kinds) {
    const support::shared_memory<counts> shared;
    constexpr int processes = 4;
    const std::string path = "/" + std::to_string(int(kind));
    std::vector<support::process> running;
    for (int p = 0; p < processes; ++p) {
      running.emplace_back([&] {
        const tn::client redis{lasting(server.url())};
        std::vector<std::unique_ptr<tn::rate_limiter>> limiters;  // so that requests do not share calls
        for (int i = 0; i < 20; ++i) {
          limiters.push_back(std::make_unique<tn::rate_limiter>(
              redis, tn::on_failure::fail_closed, tn::rate_limit{.limit = 100, .window = 24h, .kind = kind},
              asks_always()));
        }
        (void)tn::sync_wait(limiters[0]->async_peek(acme, path));
        ++shared->ready;
        while (!shared->go) std::this_thread::sleep_for(1ms);
        std::vector<support::under_way<tn::decision>> calls;
        for (const auto& each : limiters) {
          for (int i = 0; i < 3; ++i) calls.push_back(support::started(each->async_acquire(acme, path)));
        }
        ++shared->sent;
        for (auto& each : calls) {
          const tn::decision d = each.take();
          shared->admitted += d.granted;
          shared->failures += d.failure ? 1 : 0;
        }
        return 0;
      });
    }
    CHECK(support::eventually([&] { return shared->ready == processes; }));
    server.pause();
    shared->go = true;
    const bool all_sent = support::eventually([&] { return shared->sent == processes; });
    std::this_thread::sleep_for(20ms);  // so that most of them are in the server's sockets
    server.resume();
    CHECK(all_sent);
    for (support::process& each : running) CHECK(each.result() == 0);
    CHECK(shared->failures == 0);
    CHECK(shared->admitted == 100);
  }
}

TEST_CASE("gcra gives back no more units in a window than the limit, where the time of one is no whole number") {
  const support::redis_rig redis;
  tn::rate_limiter limiter{redis.client,
                           tn::on_failure::fail_closed,
                           {.limit = 700'000, .window = 1s, .kind = limit_kind::gcra},  // 1.43 microseconds each
                           asks_always()};
  const tn::decision d = limiter.acquire(acme, "/", 700'000);
  REQUIRE(d);
  CHECK(d.reset_after > 1s - 100ms);
}
