// A program whose threads use everything while it forks, and children that use, or end, what they inherited.

#include "support/cache_rig.hpp"
#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/kpi.hpp"
#include "support/sanitized.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/concurrency_limiter.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::alarms;
using support::eventually;
using support::gateway_health;
using support::in_child;
using support::kpi;
using support::redis_rig;

tn::client_options patient() {
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.timeout = 20s;
  return options;
}

tn::key key_of(int i) { return gateway_health(acme, std::to_string(i % 7)); }

/// 0 where the call fails with `forked`, unsent.
int refused(auto&& call) {
  try {
    call();
    return 1;
  } catch (const tn::error& why) {
    return why.code() == tn::errc::forked && why.execution() == tn::execution::not_sent ? 0 : 2;
  }
}

/// All that a program may have of one client.
struct program {
  tn::thread_pool pool{2};
  std::unique_ptr<tn::client> redis = std::make_unique<tn::client>(patient());
  std::optional<tn::cache<kpi>> kpis{
      std::in_place, *redis,
      tn::cache_options{.jitter = 0, .executor = pool.get_executor(), .near = tn::near_options{}},
      [](const tn::key&, tn::load_context&) {
        return kpi{1, "loaded"};
      }};
  std::optional<tn::rate_limiter> limiter{std::in_place, *redis, tn::on_failure::insurance(1),
                                          tn::rate_limit{.limit = 1'000'000, .window = 60s},
                                          tn::limiter_options{.timeout = 20s}};
  std::optional<tn::concurrency_limiter> permits{std::in_place, *redis, tn::on_failure::insurance(1),
                                                 tn::concurrency_options{.limit = 1000, .timeout = 20s}};
  tn::publisher pub{*redis};
  std::optional<tn::subscriber> sub{std::in_place, *redis};
  std::optional<tn::event_log<std::string>> log{std::in_place, *redis, alarms};

  void end() {
    kpis.reset();
    limiter.reset();
    permits.reset();
    sub.reset();
    log.reset();
    redis.reset();
  }
};

/// Everything at once, until the end of its scope.
class busy_threads {
 public:
  explicit busy_threads(program& of) {
    run([&](int i) {
      of.kpis->invalidate(key_of(i));
      (void)of.kpis->fetch(key_of(i));
      for (int hit = 0; hit < 20; ++hit) (void)of.kpis->get(key_of(i));
    });
    run([&](int i) { (void)tn::sync_wait(of.kpis->async_fetch(key_of(i))); });
    run([&](int i) {
      of.redis->execute("SET", "n", i);
      tn::sync_wait(of.redis->async_execute("GET", "n"));
      (void)of.redis->metrics();
    });
    run([&](int) {
      (void)of.limiter->acquire(acme, "/");
      const tn::permit mine = of.permits->acquire(acme, "exports");
      (void)tn::sync_wait(of.limiter->async_acquire(acme, "/"));
    });
    run([&](int) {
      of.pub.publish(alarms(acme), "to all");
      auto feed = of.sub->subscribe<std::string>(alarms(acme), {.timeout = 20s});
      of.log->append(acme, "event");
      auto followed = of.log->follow(*of.sub, acme);
      (void)followed.next_for(0ms);
    });
  }
  busy_threads(const busy_threads&) = delete;
  busy_threads& operator=(const busy_threads&) = delete;
  ~busy_threads() = default;

  [[nodiscard]] int failures() const { return failures_; }
  /// All have made rounds since the last time.
  [[nodiscard]] bool go_on() {
    const int before = rounds_;
    return eventually([&] { return rounds_ >= before + 5; });
  }

 private:
  template <class Round>
  void run(Round round) {
    threads_.emplace_back([this, round](const std::stop_token& stop) {
      for (int i = 0; !stop.stop_requested(); ++i) {
        try {
          round(i);
        } catch (const tn::error&) {
          ++failures_;
        }
        ++rounds_;
      }
    });
  }

  std::atomic<int> failures_ = 0;
  std::atomic<int> rounds_ = 0;
  std::vector<std::jthread> threads_;  // last: they use the others
};

/// Which call it was that went wrong.
int use_all(program& mine, int i) {
  if (refused([&] { mine.redis->execute("PING"); }) != 0) return 1;
  if (refused([&] { tn::sync_wait(mine.redis->async_execute("PING")); }) != 0) return 2;
  if (refused([&] { (void)mine.kpis->fetch(key_of(i)); }) != 0) return 3;
  if (refused([&] { (void)tn::sync_wait(mine.kpis->async_fetch(key_of(i))); }) != 0) return 4;
  if (refused([&] { (void)mine.kpis->get(key_of(i)); }) != 0) return 5;
  if (refused([&] { mine.kpis->invalidate(key_of(i)); }) != 0) return 6;
  if (mine.limiter->acquire(acme, "/").allowed) return 7;
  if (mine.permits->acquire(acme, "exports")) return 8;
  if (refused([&] { mine.pub.publish(alarms(acme), "x"); }) != 0) return 9;
  if (refused([&] { (void)mine.sub->subscribe<std::string>(alarms(acme)); }) != 0) return 10;
  if (refused([&] { (void)mine.log->append(acme, "x"); }) != 0) return 11;
  if (!mine.redis->metrics().lanes.empty()) return 12;
  mine.redis->close(1h);
  return 0;
}

int open_sockets() {
  int count = 0;
  for (const auto& each : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(each, ignored).string().starts_with("socket:")) ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("no child of a fork hangs, whatever the threads of its parent were doing, and the parent notices nothing") {
  const support::must_end watch{115s};
  const redis_rig redis;
  program mine;
  REQUIRE(eventually([&] { return mine.kpis->near_stats().tracking; }));
  int hung = 0;
  int other = 0;
  {
    busy_threads busy{mine};
    REQUIRE(busy.go_on());
    const int forks = support::sanitized ? 60 : 1000;
    for (int i = 0; i < forks; ++i) {
      const int told = in_child([&] {
        if (i % 3 != 2) {
          if (const int wrong = use_all(mine, i); wrong != 0) return wrong;
        }
        if (i % 2 == 0) mine.end();
        return 0;
      });
      CAPTURE(i, told);
      CHECK(told == 0);
      if (told == 102) ++hung;
      if (told != 0 && told != 102) ++other;
      if (hung > 2 || i % 20 == 19) {
        REQUIRE(hung <= 2);
        REQUIRE(busy.go_on());
      }
    }
    CHECK(busy.failures() == 0);
  }
  CHECK(hung == 0);
  CHECK(other == 0);
}

TEST_CASE("a child of a fork that ends everything of a client keeps no connection of it open") {
  const redis_rig redis;
  const int before = open_sockets();
  program mine;
  REQUIRE(eventually([&] { return mine.kpis->near_stats().tracking; }));
  auto feed = mine.sub->subscribe<std::string>(alarms(acme), support::roomy);
  (void)tn::sync_wait(mine.kpis->async_fetch(key_of(0)));
  CHECK(in_child([&] {
          if (open_sockets() < before + 3) return 1;
          mine.end();
          return open_sockets() == before ? 0 : 2;
        }) == 0);
  mine.pub.publish(alarms(acme), "goes on");
  CHECK(support::next_of(feed) == "goes on");
}
