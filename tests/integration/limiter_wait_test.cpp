// Waiting until a limiter admits: in order, and never longer than there is use in it.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
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
#include <fstream>
#include <memory>
#include <stop_token>
#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::redis_rig;
using tn::decision_source;
using clock = std::chrono::steady_clock;

const std::string path = "/api/report";
constexpr tn::rate_limit one_an_hour{.limit = 1, .window = 1h};

/// A blocking wait on a thread of its own, once it sleeps.
class waiter {
 public:
  waiter(tn::rate_limiter& limiter, std::chrono::milliseconds at_most, std::uint64_t cost = 1) {
    result_ = support::on_thread([this, &limiter, at_most, cost] {
      thread_ = static_cast<long>(::syscall(SYS_gettid));
      tn::decision d = limiter.wait(acme, path, at_most, cost, stop_.get_token());
      ended_ = true;
      return d;
    });
    int asleep = 0;  // longer than for a reply of Redis
    REQUIRE(support::eventually([&] {
      asleep = thread_ != 0 && sleeps() ? asleep + 1 : 0;
      return asleep > 15 || ended_;
    }));
  }
  [[nodiscard]] bool ended() const { return ended_; }
  void stop() { stop_.request_stop(); }
  tn::decision take() { return result_.get(); }
  ~waiter() { stop(); }
  waiter(const waiter&) = delete;
  waiter& operator=(const waiter&) = delete;

 private:
  [[nodiscard]] bool sleeps() const {
    std::ifstream file{"/proc/self/task/" + std::to_string(thread_.load()) + "/stat"};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    const auto at = text.rfind(") ");
    return at != std::string::npos && text[at + 2] == 'S';
  }

  std::atomic<long> thread_{0};
  std::atomic<bool> ended_{false};
  std::stop_source stop_;
  std::future<tn::decision> result_;
};

/// A limiter that has nothing left for an hour.
struct used_up {
  explicit used_up(const redis_rig& rig, tn::rate_limit limit = one_an_hour)
      : limiter{rig.client, tn::on_failure::fail_closed, limit, support::remembers()} {
    REQUIRE(limiter.acquire(acme, path, limit.limit));
  }
  tn::rate_limiter limiter;
};

}  // namespace

TEST_CASE("wait admits at once where there is something, with patience and without") {
  const redis_rig redis;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 5, .window = 1h}, support::remembers()};
  const tn::decision d = limiter.wait(acme, path, 1h, 2);
  CHECK(d);
  CHECK(d.granted == 2);
  CHECK(d.remaining == 3);
  CHECK(d.source == decision_source::redis);
  CHECK(limiter.wait(acme, path, 0ms));
  CHECK(limiter.wait(acme, path, -5ms));
  CHECK(tn::sync_wait(limiter.async_wait(acme, path, 0ms)));
  CHECK_FALSE(limiter.wait(acme, path, 0ms));
  CHECK_FALSE(tn::sync_wait(limiter.async_wait(acme, path, 0ms)));
  CHECK_FALSE(limiter.wait(acme, path, -5ms));
}

TEST_CASE("threads that wait are served in the order of coming, each refund the first of them") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis};
  std::vector<std::unique_ptr<waiter>> line;
  for (int i = 0; i < 6; ++i) line.push_back(std::make_unique<waiter>(of.limiter, 24h));
  for (std::size_t i = 0; i < line.size(); ++i) {
    CHECK_FALSE(line[i]->ended());
    REQUIRE(of.limiter.refund(acme, path).granted == 1);
    CHECK(line[i]->take());
    for (std::size_t later = i + 1; later < line.size(); ++later) CHECK_FALSE(line[later]->ended());
  }
}

TEST_CASE("coroutines that wait are served in the order of coming, and threads among them") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis};
  std::vector<support::under_way<tn::decision>> line;
  for (int i = 0; i < 5; ++i) line.push_back(support::started(of.limiter.async_wait(acme, path, 24h)));
  waiter thread{of.limiter, 24h};
  line.push_back(support::started(of.limiter.async_wait(acme, path, 24h)));
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (i == 5) {
      REQUIRE(of.limiter.refund(acme, path).granted == 1);
      CHECK(thread.take());
    }
    CHECK_FALSE(line[i].has_ended());
    REQUIRE(of.limiter.refund(acme, path).granted == 1);
    CHECK(line[i].take());
    for (std::size_t later = i + 1; later < line.size(); ++later) CHECK_FALSE(line[later].has_ended());
    if (i < 5) CHECK_FALSE(thread.ended());
  }
}

TEST_CASE("those who wait are admitted one window after another, in order") {
  const redis_rig redis;
  const support::must_end limit;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 2, .window = 200ms}, support::remembers()};
  std::atomic<int> place{0};
  std::vector<std::atomic<int>> places(9);
  const auto begin = clock::now();
  for (std::size_t i = 0; i < places.size(); ++i) {
    tn::start(limiter.async_wait(acme, path, 20s),
              [&, i](std::exception_ptr, std::optional<tn::decision> d) { places[i] = d && *d ? ++place : -1; });
  }
  CHECK(support::eventually([&] { return std::ranges::all_of(places, [](const auto& each) { return each != 0; }); }));
  CHECK(clock::now() - begin >= 799ms);  // 9 of 2 in each window
  for (std::size_t i = 0; i + 2 < places.size(); ++i) {
    CHECK(places[i] > 0);
    CHECK(places[i] < places[i + 2]);  // two may be admitted together
  }
}

TEST_CASE("a large cost at the head of the line is not overtaken by small ones") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis, {.limit = 4, .window = 1h}};
  auto large = support::started(of.limiter.async_wait(acme, path, 24h, 4));
  auto small = support::started(of.limiter.async_wait(acme, path, 24h, 1));
  REQUIRE(of.limiter.refund(acme, path, 2).granted == 2);
  std::this_thread::sleep_for(50ms);
  CHECK_FALSE(large.has_ended());
  CHECK_FALSE(small.has_ended());
  REQUIRE(of.limiter.refund(acme, path, 2).granted == 2);
  CHECK(large.take());
  CHECK_FALSE(small.has_ended());
  REQUIRE(of.limiter.refund(acme, path, 1).granted == 1);
  CHECK(small.take());
}

TEST_CASE("wait gives up at once where the time is not enough, also behind others") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis};
  const auto begin = clock::now();
  const tn::decision d = of.limiter.wait(acme, path, 10min);
  CHECK_FALSE(d);
  CHECK(d.failure == nullptr);
  CHECK(d.retry_after > 50min);
  CHECK_FALSE(tn::sync_wait(of.limiter.async_wait(acme, path, 10min)));
  CHECK(clock::now() - begin < 20s);
}

TEST_CASE("wait gives up within its time where others of the line take what it waits for") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis};
  auto ahead = support::started(of.limiter.async_wait(acme, path, 24h));
  auto hurried = support::started(of.limiter.async_wait(acme, path, 300ms));
  CHECK_FALSE(hurried.take());
  waiter thread{of.limiter, 300ms};
  CHECK_FALSE(thread.take());
  CHECK_FALSE(ahead.has_ended());
  REQUIRE(of.limiter.refund(acme, path).granted == 1);
  CHECK(ahead.take());
}

TEST_CASE("wait does not wait for a cost over the limit, or a limit of 0, and charges nothing") {
  const redis_rig redis;
  const support::must_end limit;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, {.limit = 5, .window = 1h}, support::remembers()};
  const tn::decision d = limiter.wait(acme, path, 24h, 6);
  CHECK_FALSE(d);
  CHECK_FALSE(d.retry_after);
  CHECK_FALSE(tn::sync_wait(limiter.async_wait(acme, path, 24h, 6)).retry_after);
  CHECK(limiter.peek(acme, path).remaining == 5);
  limiter.set_limits({{.limit = 0, .window = 1h}});
  CHECK_FALSE(limiter.wait(acme, path, 24h));
  CHECK_FALSE(tn::sync_wait(limiter.async_wait(acme, path, 24h)));
}

TEST_CASE("a stop token ends a wait at once, charges nothing, and the next in line is served") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis};
  waiter first{of.limiter, 24h};
  std::stop_source stop;
  auto second = support::started(of.limiter.async_wait(acme, path, 24h, 1, stop.get_token()));
  waiter third{of.limiter, 24h};
  auto fourth = support::started(of.limiter.async_wait(acme, path, 24h));
  first.stop();
  const tn::decision one = first.take();
  CHECK_FALSE(one);
  REQUIRE(one.failure != nullptr);
  CHECK(one.failure->code() == tn::errc::cancelled);
  stop.request_stop();
  const tn::decision two = second.take();
  CHECK_FALSE(two);
  REQUIRE(two.failure != nullptr);
  CHECK(two.failure->code() == tn::errc::cancelled);
  CHECK_FALSE(third.ended());
  REQUIRE(of.limiter.refund(acme, path).granted == 1);
  CHECK(third.take());
  third.stop();
  CHECK_FALSE(fourth.has_ended());
  REQUIRE(of.limiter.refund(acme, path).granted == 1);
  CHECK(fourth.take());
}

TEST_CASE("a wait whose token was triggered before charges nothing") {
  const redis_rig redis;
  std::stop_source stop;
  stop.request_stop();
  tn::rate_limiter empty{redis.client, tn::on_failure::fail_closed, {.limit = 5, .window = 1h}, support::remembers()};
  const tn::decision late = empty.wait(acme, "/b", 24h, 1, stop.get_token());
  CHECK_FALSE(late);
  CHECK(empty.peek(acme, "/b").remaining == 5);
  REQUIRE(late.failure != nullptr);
  CHECK(late.failure->code() == tn::errc::cancelled);
  CHECK_FALSE(tn::sync_wait(empty.async_wait(acme, "/b", 24h, 1, stop.get_token())));
  CHECK(empty.peek(acme, "/b").remaining == 5);
}

TEST_CASE("tokens that are triggered while the line is served leave nobody behind") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis};
  for (int round = 0; round < 100; ++round) {
    std::stop_source stop;
    auto first = support::started(of.limiter.async_wait(acme, path, 24h, 1, stop.get_token()));
    auto second = support::started(of.limiter.async_wait(acme, path, 24h));
    std::thread stops{[&] { stop.request_stop(); }};
    REQUIRE(of.limiter.refund(acme, path).granted == 1);
    stops.join();
    if (first.take()) REQUIRE(of.limiter.refund(acme, path).granted == 1);
    REQUIRE(second.take());
  }
}

TEST_CASE("reset and higher limits in this process wake those who wait") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis};
  waiter first{of.limiter, 24h};
  of.limiter.reset(acme, path);
  CHECK(first.take());
  auto second = support::started(of.limiter.async_wait(acme, path, 24h));
  of.limiter.set_limits({{.limit = 2, .window = 1h}});
  CHECK(second.take());
}

TEST_CASE("a thousand wait for different keys, and each is admitted") {
  const redis_rig redis;
  const support::must_end limit;
  tn::rate_limiter limiter{
      redis.client, tn::on_failure::fail_closed, {.limit = 1, .window = 500ms}, support::remembers()};
  std::vector<tn::task<tn::decision>> all;
  for (int i = 0; i < 1000; ++i) {
    for (int twice = 0; twice < 2; ++twice) all.push_back(limiter.async_wait(acme, "/" + std::to_string(i), 20s));
  }
  int admitted = 0;
  for (const tn::decision& d : tn::sync_wait(tn::when_all(std::move(all)))) admitted += d ? 1 : 0;
  CHECK(admitted == 2000);
}

TEST_CASE("closing the client ends waits with a decision that needs no Redis") {
  support::need_redis();
  const support::must_end limit;
  const tn::testing::redis_server server;
  for (const auto& policy : {tn::on_failure::fail_open, tn::on_failure::fail_closed, tn::on_failure::insurance(1)}) {
    tn::client redis{support::lasting(server.url())};
    redis.execute("FLUSHALL");
    tn::rate_limiter limiter{redis, policy, {.limit = 1, .window = 800ms}, support::remembers()};
    REQUIRE(limiter.acquire(acme, path));
    waiter thread{limiter, 900ms};
    auto task = support::started(limiter.async_wait(acme, "/b", 900ms));
    (void)task.take();
    task = support::started(limiter.async_wait(acme, "/b", 900ms));
    redis.close(0ms);
    for (const tn::decision& d : {thread.take(), task.take()}) {
      INFO(to_string(d.source));
      // It was already over, or what Redis said before still holds.
      if (d.source == decision_source::redis || d.source == decision_source::denial_cache) continue;
      CHECK(d.source == policy.source());
      CHECK(d.allowed == (policy.source() != decision_source::fail_closed));
      REQUIRE(d.failure != nullptr);
      CHECK(d.failure->code() == tn::errc::closed);
    }
  }
}

TEST_CASE("without Redis a refund wakes those who wait for the insurance") {
  support::need_redis();
  const support::must_end limit;
  tn::testing::redis_server server;
  tn::client redis{support::lasting(server.url())};
  tn::rate_limiter insured{redis, tn::on_failure::insurance(1), one_an_hour, {.timeout = 300ms}};
  server.kill();
  REQUIRE(insured.acquire(acme, path));
  auto first = support::started(insured.async_wait(acme, path, 24h));
  CHECK_FALSE(first.has_ended());
  REQUIRE(insured.refund(acme, path).granted == 1);
  CHECK(support::eventually([&] { return first.has_ended(); }));
  if (!first.has_ended()) {
    insured.set_limits({{.limit = 2, .window = 1h}});
    (void)first.take();
  }
}

TEST_CASE("without Redis wait does as the policy says, and goes on with Redis when it is back") {
  support::need_redis();
  const support::must_end limit;
  tn::testing::redis_server server;
  tn::client redis{support::lasting(server.url())};
  const tn::limiter_options how{.timeout = 300ms};
  const tn::rate_limit one{.limit = 1, .window = 200ms};
  tn::rate_limiter open{redis, tn::on_failure::fail_open, one, how};
  tn::rate_limiter closed{redis, tn::on_failure::fail_closed, one, how};
  tn::rate_limiter insured{redis, tn::on_failure::insurance(1), one, how};
  server.kill();
  CHECK(open.wait(acme, path, 1h).source == decision_source::fail_open);
  CHECK(tn::sync_wait(open.async_wait(acme, path, 1h)).source == decision_source::fail_open);
  const tn::decision denied = closed.wait(acme, path, 500ms);  // less than the second that it would say
  CHECK_FALSE(denied);
  CHECK(denied.source == decision_source::fail_closed);
  for (int i = 0; i < 3; ++i) {
    const tn::decision d = insured.wait(acme, path, 20s);
    CHECK(d);
    CHECK(d.source == decision_source::insurance);
  }
  waiter thread{closed, 40s};
  auto task = support::started(closed.async_wait(acme, "/b", 40s));
  server.start();
  for (const tn::decision& d : {thread.take(), task.take()}) {
    CHECK(d);
    CHECK(d.source == decision_source::redis);
  }
}

TEST_CASE("patience without an end is patience") {
  const redis_rig redis;
  const support::must_end limit;
  used_up of{redis};
  waiter thread{of.limiter, tn::no_timeout};
  auto task = support::started(of.limiter.async_wait(acme, path, tn::no_timeout));
  CHECK_FALSE(thread.ended());
  CHECK_FALSE(task.has_ended());
  REQUIRE(of.limiter.refund(acme, path).granted == 1);
  CHECK(thread.take());
  REQUIRE(of.limiter.refund(acme, path).granted == 1);
  CHECK(task.take());
}

TEST_CASE("what another process gives back reaches those who wait, within the age of a memory") {
  const redis_rig redis;
  const support::must_end limit;
  tn::rate_limiter limiter{redis.client, tn::on_failure::fail_closed, one_an_hour, support::remembers(200ms)};
  REQUIRE(limiter.acquire(acme, path));
  waiter first{limiter, 24h};
  tn::rate_limiter elsewhere{redis.client, tn::on_failure::fail_closed, one_an_hour, support::asks_always()};
  REQUIRE(elsewhere.refund(acme, path).granted == 1);
  CHECK(support::eventually([&] { return first.ended(); }));
}
