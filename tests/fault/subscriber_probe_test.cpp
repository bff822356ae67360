// Connections that answer but deliver nothing, and probes that find them.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/listener.hpp"
#include "support/obedient_server.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <variant>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::eventually;
using support::next_of;
using support::obedient_server;
using support::redis_rig;

const tn::tenant_id acme{"acme"};

tn::subscriber_options probing(std::chrono::milliseconds interval, std::chrono::milliseconds timeout) {
  return {.heartbeat = 20ms,
          .heartbeat_timeout = 20s,
          .probe = tn::probe_options{.interval = interval, .timeout = timeout}};
}

}  // namespace

TEST_CASE("a connection that answers but delivers nothing is opened again, with one gap, and then stays") {
  const support::must_end watch{110s};
  obedient_server server;
  support::listener heard;
  auto options = tn::client_options::from_url(server.url());
  options.observer = heard.ear();
  const tn::client redis{options};
  tn::subscriber sub{redis, probing(20ms, 1500ms)};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  auto other = sub.subscribe<std::string>(support::news.all(acme));
  REQUIRE(eventually([&] { return server.published() >= 3; }));  // they come back
  CHECK(sub.counters().outages == 0);
  server.detach();
  for (auto* const each : {&feed, &other}) {
    const auto event = each->next_for(20s);
    REQUIRE(event);
    REQUIRE(std::holds_alternative<tn::gap>(*event));
    CHECK(std::get<tn::gap>(*event).cause == tn::gap_cause::probe_failed);
  }
  CHECK(to_string(tn::gap_cause::probe_failed) == "probe_failed");
  server.say(support::message_on("alarms:acme", "after"));
  CHECK(next_of(feed) == "after");
  const std::size_t published = server.published();
  REQUIRE(eventually([&] { return server.published() >= published + 5; }));
  CHECK(sub.counters().outages == 1);
  CHECK(feed.counters().gaps == 1);
  CHECK_FALSE(other.try_next());
  const auto lost = heard.all(tn::events::push_lost);
  REQUIRE(lost.size() == 1);
  CHECK(lost[0].text.at("detail").find("probe") != std::string::npos);
  REQUIRE_FALSE(heard.all(tn::events::gap).empty());
  CHECK(heard.all(tn::events::gap)[0].text.at("cause") == "probe_failed");
}

TEST_CASE("without probes such a connection is taken for a good one") {
  obedient_server server;
  const tn::client redis{server.url()};
  tn::subscriber sub{redis, {.heartbeat = 20ms, .heartbeat_timeout = 20s}};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  server.detach();
  const std::size_t pings = server.asked("PING");
  REQUIRE(eventually([&] { return server.asked("PING") >= pings + 10; }));
  CHECK(sub.counters().outages == 0);
  CHECK(server.published() == 0);
}

TEST_CASE("an idle subscriber that is probed stays connected, and nobody sees the probes") {
  const redis_rig redis;
  tn::subscriber sub{redis.client, probing(2ms, 20s)};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  auto pattern = sub.subscribe<std::string>(support::news.all(acme));
  redis.client.execute("CONFIG", "RESETSTAT");
  REQUIRE(eventually([&] { return redis.calls("publish") >= 50; }));
  CHECK_FALSE(feed.try_next());
  CHECK_FALSE(pattern.try_next());
  const tn::subscriber_counters all = sub.counters();
  CHECK(all.outages == 0);
  CHECK(all.messages == 0);
  CHECK(all.deliveries == 0);
  CHECK(all.foreign == 0);
  CHECK(all.channels == 2);
  CHECK(all.subscriptions == 2);
  const tn::reply channels = redis.client.execute("PUBSUB", "CHANNELS", "tenantry#probe:*");
  REQUIRE(channels.elements().size() == 1);
  CHECK(channels[0].str().size() == std::string_view{"tenantry#probe:"}.size() + 32);
}

TEST_CASE("probes that Redis does not accept end no connection") {
  const support::must_end watch;
  obedient_server server;
  server.answer_publish("-ERR not now\r\n");
  const tn::client redis{server.url()};
  tn::subscriber sub{redis, probing(5ms, 20ms)};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  server.detach();
  REQUIRE(eventually([&] { return server.published() >= 30; }));
  CHECK(sub.counters().outages == 0);
  server.answer_publish(":0\r\n");
  CHECK(next_of(feed) == "gap");
}

TEST_CASE("a user that may not be probed is told to the observer once, and all else works") {
  const support::must_end watch{110s};
  support::need_redis();
  const bool may_listen = GENERATE(false, true);
  const tn::testing::redis_server server;
  const tn::client admin{server.url()};
  const std::string channels = may_listen ? "allchannels" : "&alarms:*";
  const std::string commands = may_listen ? "-publish" : "+publish";
  admin.execute("ACL", "SETUSER", "limited", "on", ">secret", "+@all", commands, "resetchannels", channels);
  support::listener heard;
  auto options = tn::client_options::from_url(server.url());
  options.username = "limited";
  options.password = "secret";
  options.observer = heard.ear();
  const tn::client redis{options};
  tn::subscriber sub{redis, probing(5ms, 20ms)};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  REQUIRE(eventually([&] { return !heard.all(tn::events::probe_refused).empty(); }));
  const tn::publisher pub{admin};
  for (int i = 0; i < 2; ++i) {
    pub.publish(alarms(acme), "here");
    CHECK(next_of(feed) == "here");
    CHECK(support::kill_listeners(admin) == 1);
    CHECK(next_of(feed) == "gap");
  }
  CHECK(eventually([&] { return support::channels_listening(admin) == 1; }));  // not to probes any more
  CHECK(sub.counters().outages == 2);
  const auto told = heard.all(tn::events::probe_refused);
  REQUIRE(told.size() == 1);
  CHECK(told[0].text.at("channel").starts_with("tenantry#probe:"));
  CHECK(told[0].text.at("detail").starts_with("NOPERM"));
}

TEST_CASE("subscribers and clients end at once while probes are under way") {
  const support::must_end watch{110s};
  const redis_rig direct;
  for (int i = 0; i < 100; ++i) {
    auto redis = std::make_unique<tn::client>(redis_rig::server().url());
    auto sub = std::make_unique<tn::subscriber>(*redis, probing(1ms, 20s));
    auto feed = sub->subscribe<std::string>(alarms(acme));
    if (i % 4 == 1) std::this_thread::sleep_for(std::chrono::microseconds{100 * i});
    if (i % 3 == 0) redis->close(20s);
    sub.reset();
    if (i % 2 == 0) redis.reset();
    CHECK(next_of(feed) == "closed: stopped");
  }
  CHECK(eventually([&] { return support::channels_listening(direct.client) == 0; }));
}

TEST_CASE("options of probes that cannot be are refused, naming the field") {
  const redis_rig redis;
  const auto refusal = [&](const tn::probe_options& how) -> std::string {
    try {
      tn::subscriber sub{redis.client, {.probe = how}};
    } catch (const tn::invalid_option& why) {
      return why.what();
    }
    return {};
  };
  CHECK(refusal({.interval = 0ms}).find("subscriber_options.probe.interval") != std::string::npos);
  CHECK(refusal({.timeout = 0ms}).find("subscriber_options.probe.timeout") != std::string::npos);
  CHECK(refusal({}).empty());
}
