// What the bridge promises while Redis, the broker or an instance is away.

#include "ingest_rig.hpp"
#include "mosquitto.hpp"
#include "support/concurrency.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using namespace gateway::testing;
using support::eventually;

struct rig {
  rig() {
    db.fill_with_demo_data(acme, noon);
    db.fill_with_demo_data(globex, noon);
  }

  temporary_directory where;
  gateway::store db{where.file("db")};
  tn::testing::redis_server server = durable_redis();
};

/// An instance that listens to a broker, as in the server.
struct listening {
  listening(rig& of, const mosquitto_broker& broker, const std::string& id)
      : one{of.db, of.server.url(), {.retry_every = 50ms}},
        broker_side{{.port = broker.port(),
                     .client_id = id,
                     .topics = {gateway::subscribed_topics.begin(), gateway::subscribed_topics.end()},
                     .reconnect_after = 20ms,
                     .longest_reconnect_after = 100ms},
                    [this](std::string_view topic, std::string_view payload) { one.bridge.offer(topic, payload); }} {
    REQUIRE(eventually([this] { return broker_side.connected(); }));
  }
  ~listening() { one.bridge.stop(0ms); }  // first, so that nobody waits in offer
  listening(const listening&) = delete;
  listening& operator=(const listening&) = delete;

  instance one;
  gateway::mqtt broker_side;
};

struct speaker {
  explicit speaker(const mosquitto_broker& broker)
      : client{{.port = broker.port(),
                .client_id = "speaker",
                .reconnect_after = 20ms,
                .longest_reconnect_after = 100ms}} {}
  void raise(int first, int last) {
    for (const std::string& id : ids(first, last)) {
      const gateway::alarm what = instance::alarm_named(id);
      CHECK(client.publish(topic_of(acme, "gw-1", what), payload_of(what), 20s));
    }
  }
  bool confirmed() { return client.wait_until_confirmed(20s); }

  gateway::mqtt client;
};

bool log_has(const instance& seen_by, int alarms) {
  return eventually([&] { return logged_ids(seen_by.redis, acme).size() >= static_cast<std::size_t>(alarms); });
}

}  // namespace

TEST_CASE("alarms that come while Redis is away are in the log when it is back, none missing, in order") {
  rig of;
  instance one{of.db, of.server.url(), {.retry_every = 20ms}};
  for (const std::string& id : ids(1, 50)) one.raise(acme, id);
  CHECK(one.has_appended(50));
  of.server.kill();
  for (const std::string& id : ids(51, 150)) one.raise(acme, id);
  REQUIRE(one.has_received(150));
  CHECK(eventually([&] { return one.bridge.counters().alarms_held == 100; }));
  of.server.start();
  CHECK(one.has_appended(150));
  for (const std::string& id : ids(151, 160)) one.raise(acme, id);
  CHECK(one.has_appended(160));
  CHECK(one.bridge.counters().alarms_held == 0);
  CHECK(one.bridge.counters().alarms_dropped == 0);
  CHECK(logged_ids(one.redis, acme) == ids(1, 160));
}

TEST_CASE("readings are committed while Redis is away, and the tag is expired when it is back") {
  rig of;
  instance one{of.db, of.server.url(), {.retry_every = 20ms}};
  of.server.kill();
  for (int i = 0; i < 100; ++i) one.report(acme, "gw-1", {{"m-1", noon + i, i}});
  REQUIRE(eventually([&] { return one.bridge.counters().new_readings == 100; }));
  CHECK(one.bridge.counters().expires == 0);
  CHECK(of.db.portfolio(acme, noon).readings_today == 100);
  of.server.start();
  CHECK(eventually([&] { return one.bridge.counters().expires == 1; }));
}

TEST_CASE("readings are committed while Redis does not answer") {
  rig of;
  instance one{of.db, of.server.url(), {.batch = 10, .retry_every = 20ms}};
  of.server.pause();
  one.raise(acme, "a-1");
  for (int i = 0; i < 100; ++i) one.report(acme, "gw-1", {{"m-1", noon + i, i}});
  CHECK(eventually([&] { return one.bridge.counters().new_readings == 100; }));
  CHECK(one.bridge.counters().alarms_appended == 0);
  of.server.resume();
  CHECK(one.has_appended(1));
  CHECK(logged_ids(one.redis, acme) == ids(1, 1));
}

TEST_CASE("of more alarms than can be held the oldest are kept, and the others are counted") {
  rig of;
  instance one{of.db, of.server.url(), {.held = 10, .retry_every = 20ms}};
  of.server.kill();
  for (const std::string& id : ids(1, 25)) one.raise(acme, id);
  REQUIRE(eventually([&] { return one.bridge.counters().alarms_dropped == 15; }));
  CHECK(one.bridge.counters().alarms_held == 10);
  of.server.start();
  CHECK(one.has_appended(10));
  CHECK(logged_ids(one.redis, acme) == ids(1, 10));
}

TEST_CASE("a tenant whose log cannot be written to holds up nobody else") {
  rig of;
  instance one{of.db, of.server.url(), {.held = 10, .retry_every = 20ms}};
  one.redis.execute("SET", "log:{acme}:alarms", "not a stream");
  for (const std::string& id : ids(1, 25)) one.raise(acme, id);
  for (const std::string& id : ids(1, 25)) one.raise(globex, id);
  CHECK(one.has_appended(25));
  CHECK(logged_ids(one.redis, globex) == ids(1, 25));
  one.redis.execute("DEL", "log:{acme}:alarms");
  CHECK(one.has_appended(35));
  CHECK(logged_ids(one.redis, acme) == ids(1, 10));
}

TEST_CASE("alarms are appended once by two instances that listen to one broker, through a crash of Redis") {
  const mosquitto_broker broker;
  rig of;
  const listening one{of, broker, "one"};
  const listening two{of, broker, "two"};
  speaker says{broker};
  says.raise(1, 100);
  CHECK(log_has(one.one, 100));
  of.server.kill();
  says.raise(101, 200);
  CHECK(says.confirmed());
  of.server.start();
  says.raise(201, 250);
  CHECK(one.one.has_appended(250));
  CHECK(two.one.has_appended(250));
  CHECK(logged_ids(one.one.redis, acme) == ids(1, 250));
}

TEST_CASE("an instance that ends takes no alarm with it, and gets what it missed when it is back") {
  const mosquitto_broker broker;
  rig of;
  const listening one{of, broker, "one"};
  auto two = std::make_unique<listening>(of, broker, "two");
  speaker says{broker};
  says.raise(1, 50);
  CHECK(two->one.has_appended(1));
  two.reset();
  says.raise(51, 150);
  CHECK(one.one.has_appended(150));
  two = std::make_unique<listening>(of, broker, "two");
  CHECK(two->one.has_appended(100));  // those that came while it was away
  CHECK(logged_ids(one.one.redis, acme) == ids(1, 150));
}

TEST_CASE("a restart of the broker loses no alarm") {
  mosquitto_broker broker;
  rig of;
  const listening one{of, broker, "one"};
  const listening two{of, broker, "two"};
  speaker says{broker};
  says.raise(1, 50);
  CHECK(says.confirmed());
  broker.stop();
  auto raising = support::on_thread([&] { says.raise(51, 100); });
  broker.start();
  raising.get();
  says.raise(101, 150);
  CHECK(says.confirmed());
  CHECK(one.one.has_appended(150));
  CHECK(two.one.has_appended(150));
  CHECK(logged_ids(one.one.redis, acme) == ids(1, 150));
}
