// How long messages wait to be taken, against a real server.

#include "support/cache_rig.hpp"
#include "support/feeds.hpp"

#include <tenantry/client.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/metrics.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/subscription.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <string>
#include <thread>
#include <variant>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::redis_rig;
using clock = std::chrono::steady_clock;

const tn::tenant_id acme{"acme"};
constexpr auto patience = 20s;

}  // namespace

TEST_CASE("the time that a message waits to be taken is counted for its listener, and for the subscriber as a whole") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client, {.connections = 2}};
  auto prompt = sub.subscribe<std::string>(alarms(acme));
  auto late = sub.subscribe<std::string>(alarms(acme));
  CHECK(sub.counters().time_in_queue.count == 0);
  pub.publish(alarms(acme), std::string{"1"});
  const auto came = std::get<tn::message<std::string>>(*prompt.next_for(patience));
  const auto taken = clock::now();
  CHECK(late.counters().timed == 0);
  while (clock::now() < came.received() + 20ms) std::this_thread::yield();
  REQUIRE(late.next_for(patience));
  const auto at_last = clock::now();
  CHECK(prompt.counters().timed == 1);
  CHECK(prompt.counters().time_in_queue <= taken - came.received());
  CHECK(late.counters().timed == 1);
  CHECK(late.counters().time_in_queue >= 20ms);
  CHECK(late.counters().time_in_queue <= at_last - came.received());
  CHECK(late.counters().most_time_in_queue == late.counters().time_in_queue);
  const tn::histogram all = sub.counters().time_in_queue;
  CHECK(all.count == 2);
  CHECK(all.max == late.counters().most_time_in_queue);
  CHECK(all.sum == late.counters().time_in_queue + prompt.counters().time_in_queue);
}

TEST_CASE("messages that were dropped, and those that nobody took, have no time") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  {
    auto full = sub.subscribe<std::string>(alarms(acme), {.capacity = 1, .overflow = tn::overflow::drop_newest});
    auto leaves = sub.subscribe<std::string>(alarms(acme));
    auto all = sub.subscribe<std::string>(alarms(acme));
    for (const char* each : {"1", "2", "3"}) pub.publish(alarms(acme), std::string{each});
    for (const char* each : {"1", "2", "3"}) CHECK(support::next_of(all) == each);
    CHECK(full.counters().dropped == 2);
    CHECK(support::next_of(full) == "1");
    CHECK(support::next_of(full) == "-2");
    CHECK(full.counters().timed == 1);
    CHECK(sub.counters().time_in_queue.count == 1 + all.counters().timed);
  }
  CHECK(sub.counters().time_in_queue.count <= 4);
}

TEST_CASE("coroutines and followers of a log are measured as threads are") {
  const redis_rig redis;
  const tn::event_log<std::string> log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  auto plain = sub.subscribe<std::string>(alarms(acme));
  auto feed = log.follow(sub, acme);
  log.append(acme, "1");
  CHECK(feed.next_for(patience));
  CHECK(sub.counters().time_in_queue.count == 1);
  auto waiting = plain.async_next();
  CHECK(tn::sync_wait(std::move(waiting)));
  CHECK(plain.counters().timed + 1 == sub.counters().time_in_queue.count);
}
