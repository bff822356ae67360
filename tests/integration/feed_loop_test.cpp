// Events one after another: in a range, and handed to a function.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/feed_loop.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::redis_rig;

inline constexpr tn::channel_schema<"alarms:{tenant}"> alarms;
const tn::tenant_id acme{"acme"};

std::string text_of(const tn::feed_event<std::string>& event) {
  const auto* const came = std::get_if<tn::message<std::string>>(&event);
  return came != nullptr ? came->value : std::holds_alternative<tn::closed>(event) ? "." : "?";
}

}  // namespace

TEST_CASE("a range ends with the last event, which it shows") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  auto sub = std::make_unique<tn::subscriber>(redis.client);
  auto feed = sub->subscribe<std::string>(alarms(acme));
  pub.publish(alarms(acme), "a");
  pub.publish(alarms(acme), "b");
  REQUIRE(eventually([&] { return feed.counters().queued == 2; }));
  sub.reset();
  std::string seen;
  for (auto& event : feed) {
    if (const auto* came = std::get_if<tn::message<std::string>>(&event)) seen += came->value;
    if (std::holds_alternative<tn::closed>(event)) seen += '.';
  }
  CHECK(seen == "ab.");
}

TEST_CASE("a function is called with each event, in order, one at a time, on the executor") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  auto sub = std::make_unique<tn::subscriber>(redis.client);
  tn::thread_pool pool{4};
  std::mutex mutex;
  std::string seen;
  std::atomic<int> inside = 0;
  std::atomic<bool> alone = true;
  const tn::feed_loop loop{sub->subscribe<std::string>(alarms(acme)), pool.get_executor(), [&](auto& event) {
                             if (++inside != 1) alone = false;
                             const std::lock_guard held{mutex};
                             seen += text_of(event);
                             --inside;
                           }};
  std::string sent;
  for (int i = 0; i < 500; ++i) {
    pub.publish(alarms(acme), std::to_string(i % 10));
    sent += std::to_string(i % 10);
  }
  const auto all = [&] {
    const std::lock_guard held{mutex};
    return seen;
  };
  REQUIRE(eventually([&] { return all().size() == sent.size(); }));
  sub.reset();
  REQUIRE(eventually([&] { return all() == sent + '.'; }));
  CHECK(alone);
}

TEST_CASE("what the function throws is told, and the next event follows; another listener hears all") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  tn::thread_pool pool{2};
  std::atomic<int> told = 0;
  std::atomic<int> heard = 0;
  std::atomic<int> others = 0;
  const tn::feed_loop throwing{sub.subscribe<std::string>(alarms(acme)), pool.get_executor(),
                               [&](auto&) {
                                 ++heard;
                                 throw std::runtime_error{"of the test"};
                               },
                               [&](const std::exception_ptr&) {
                                 ++told;
                                 throw 1;
                               }};
  const tn::feed_loop calm{sub.subscribe<std::string>(alarms(acme)), pool.get_executor(), [&](auto&) { ++others; }};
  for (int i = 0; i < 50; ++i) pub.publish(alarms(acme), "x");
  CHECK(eventually([&] { return heard == 50 && others == 50; }));
  CHECK(eventually([&] { return told == 50 && throwing.errors() == 50; }));
}

TEST_CASE("after stop the function is not running and is not called, a thousand times; and it may stop itself") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  tn::thread_pool pool{2};
  const std::jthread publishing{[&](const std::stop_token& stop) {
    while (!stop.stop_requested()) pub.publish(alarms(acme), "x");
  }};
  for (int i = 0; i < 1000; ++i) {
    auto alive = std::make_unique<std::atomic<int>>(0);
    tn::feed_loop loop{sub.subscribe<std::string>(alarms(acme)), pool.get_executor(),
                       [&calls = *alive](auto&) { ++calls; }};
    if (i % 2 == 0) REQUIRE(eventually([&] { return *alive > 0; }));
    loop.stop();
    alive.reset();
  }
  std::atomic<int> calls = 0;
  std::atomic<tn::feed_loop<tn::subscription<std::string>>*> self = nullptr;
  tn::feed_loop<tn::subscription<std::string>> loop{sub.subscribe<std::string>(alarms(acme)), pool.get_executor(),
                                                    [&](auto&) {
                                                      if (self != nullptr) {
                                                        ++calls;
                                                        self.load()->stop();
                                                      }
                                                    }};
  self = &loop;
  REQUIRE(eventually([&] { return calls == 1; }));
  loop.stop();
  CHECK(calls == 1);
}

TEST_CASE("followers of a log can be looped over as subscriptions can") {
  const redis_rig redis;
  const tn::event_log<std::string> log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  tn::thread_pool pool{1};
  const std::string first = log.append(acme, "1");
  std::mutex mutex;
  std::string seen;
  const tn::feed_loop loop{log.follow(sub, acme, first), pool.get_executor(), [&](auto& event) {
                             const std::lock_guard held{mutex};
                             if (const auto* came = std::get_if<tn::logged<std::string>>(&event)) seen += came->value;
                           }};
  for (const char* each : {"2", "3"}) log.append(acme, each);
  CHECK(eventually([&] {
    const std::lock_guard held{mutex};
    return seen == "23";
  }));
}
