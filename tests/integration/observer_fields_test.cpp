// Which fields the events of the library have: those that say something, and each with a name.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/kpi.hpp"
#include "support/listener.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::alarms;
using support::eventually;
using support::kpi;
using support::listener;
using support::portfolio_kpi;

std::set<std::string> fields_of(const listener::told& what) {
  std::set<std::string> names;
  for (const auto& [name, text] : what.text) names.insert(name);
  for (const auto& [name, number] : what.number) names.insert(name);
  return names;
}

/// Of each event of this name, which there is.
void check_fields(const listener& heard, std::string_view name, const std::set<std::string>& fields) {
  CAPTURE(name);
  CHECK_FALSE(heard.all(name).empty());
  for (const listener::told& each : heard.all(name)) CHECK(fields_of(each) == fields);
}

/// Whatever it is about.
void check_all(const listener& heard) {
  for (const listener::told& each : heard.all()) {
    CAPTURE(each.name);
    CHECK_FALSE(each.name.empty());
    CHECK_FALSE(fields_of(each).contains(""));
    for (const auto& [name, text] : each.text) {
      CAPTURE(name);
      CHECK_FALSE(text.empty());
    }
  }
}

}  // namespace

TEST_CASE("the events of connections have the fields that say something, and no others") {
  support::need_redis();
  tn::testing::redis_server server;
  listener heard;
  auto options = tn::client_options::from_url(server.url());
  options.observer = heard.ear();
  options.breaker = {.consecutive_failures = 2, .open_for = 10ms};
  const tn::client redis{options};
  tn::subscriber sub{redis};
  auto feed = sub.subscribe<std::string>(alarms(acme), {.timeout = 20s});
  redis.execute("PING");
  tn::sync_wait(redis.async_execute("PING"));

  server.kill();
  const auto impatient = redis.with({.timeout = 20ms, .retry = tn::retry::never});
  REQUIRE(eventually([&] {
    CHECK_THROWS(impatient.execute("PING"));
    CHECK_THROWS(tn::sync_wait(impatient.async_execute("PING")));
    return !heard.all(tn::events::breaker_opened).empty() && !heard.all(tn::events::push_lost).empty();
  }));
  server.start();
  tn::cache<kpi> kpis{redis, {}};
  REQUIRE(eventually([&] {
    try {
      (void)kpis.get(portfolio_kpi(acme));  // which asks the breaker before
      return !heard.all(tn::events::gap).empty() && !heard.all(tn::events::breaker_closed).empty();
    } catch (const tn::error&) {
      return false;
    }
  }));
  feed.unsubscribe();

  check_fields(heard, tn::events::connected, {"endpoint", "lane"});
  check_fields(heard, tn::events::connection_lost, {"endpoint", "lane", "code", "detail", "unanswered"});
  check_fields(heard, tn::events::connect_failed, {"endpoint", "lane", "code", "detail", "retry_ms"});
  check_fields(heard, tn::events::push_connected, {"endpoint", "lane"});
  check_fields(heard, tn::events::push_lost, {"endpoint", "lane", "code", "detail"});
  check_fields(heard, tn::events::breaker_opened, {"endpoint", "code"});
  check_fields(heard, tn::events::breaker_closed, {"endpoint"});
  check_fields(heard, tn::events::subscribed, {"tenant", "channel"});
  check_fields(heard, tn::events::unsubscribed, {"tenant", "channel"});
  check_fields(heard, tn::events::gap, {"tenant", "channel", "cause", "milliseconds", "listeners"});
  check_all(heard);
}

TEST_CASE("the events of a lane that stalls have the fields that say something, and no others") {
  support::need_redis();
  tn::testing::redis_server server;
  listener heard;
  auto options = tn::client_options::from_url(server.url());
  options.observer = heard.ear();
  options.timeout = 50ms;
  options.stall_limit = 100ms;
  const tn::client redis{options};
  redis.with({.timeout = 20s}).execute("PING");
  server.pause();
  CHECK(eventually([&] {
    CHECK_THROWS(redis.execute("INCR", "n"));
    return !heard.all(tn::events::lane_stalled).empty() && !heard.all(tn::events::connection_lost).empty();
  }));
  server.resume();
  check_fields(heard, tn::events::lane_stalled, {"endpoint", "lane", "milliseconds"});
  check_all(heard);
}

TEST_CASE("the events of caches, publishers and consumers have the fields that say something, and no others") {
  const support::redis_rig rig;
  listener heard;
  auto options = tn::client_options::from_url(support::redis_rig::server().url());
  options.observer = heard.ear();
  options.timeout = 20s;
  const tn::client redis{options};
  tn::cache<kpi> kpis{redis, {.ttl = 1ms, .jitter = 0, .stale_for = 1h, .failure_throttle = 0ms}};
  const tn::key k = portfolio_kpi(acme);
  kpis.put(k, {1, "old"});
  REQUIRE(eventually([&] { return !kpis.get(k); }));
  CHECK(kpis.fetch(k, []() -> kpi { throw std::runtime_error{"no database"}; })->unit == "old");
  CHECK(kpis.fetch(k,
                   [&] {
                     kpis.invalidate(k);
                     return kpi{2, "late"};
                   })
            ->unit == "late");

  // Who may not track gets near_refused.
  rig.client.execute("ACL", "SETUSER", "far", "on", ">secret", "~*", "&*", "+@all", "-client|tracking");
  auto far = options;
  far.username = "far";
  far.password = "secret";
  const tn::client without{far};
  tn::cache<kpi> never_near{without, {.near = tn::near_options{}}};
  CHECK(eventually([&] {
    (void)never_near.get(k);
    return !heard.all(tn::events::near_refused).empty();
  }));

  const tn::publisher pub{redis};
  pub.publish(alarms(acme), "a");
  tn::subscriber sub{redis};
  const tn::event_log<std::string> log{redis, alarms, {.timeout = 20s}};
  log.append(acme, "event");
  std::function<void()> stop;
  auto worker = log.consume(sub, acme, "g",
                            [&](const tn::work<std::string>& what) {
                              if (what.attempt() == 2) stop();
                              throw std::runtime_error{"cannot"};
                            },
                            {.max_attempts = 2, .retry_after = 1ms});
  stop = [&] { worker.stop(); };
  worker.run();

  check_fields(heard, tn::events::load_failed, {"tenant", "background", "detail"});
  check_fields(heard, tn::events::stale_served, {"tenant"});
  check_fields(heard, tn::events::load_fenced, {"tenant", "milliseconds"});
  check_fields(heard, tn::events::near_refused, {"detail"});
  check_fields(heard, tn::events::work_failed, {"tenant", "group", "attempt", "detail"});
  check_fields(heard, tn::events::dead_letter, {"tenant", "group", "attempt", "detail"});
  check_all(heard);
}
