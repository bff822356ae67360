// The MQTT client of the gateway example, with a real broker.

#include "mqtt.hpp"

#include "mosquitto.hpp"
#include "support/concurrency.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using gateway::mqtt;
using gateway::mqtt_options;
using gateway::testing::mosquitto_broker;
using support::eventually;

/// What came, without what came again: a message whose confirmation was lost is delivered twice.
class inbox {
 public:
  mqtt::handler handler() {
    return [this](std::string_view topic, std::string_view payload) {
      const std::lock_guard held{mutex_};
      std::string what = std::string{topic} + ' ' + std::string{payload};
      if (std::ranges::find(all_, what) == all_.end()) all_.push_back(std::move(what));
    };
  }
  [[nodiscard]] std::vector<std::string> all() const {
    const std::lock_guard held{mutex_};
    return all_;
  }
  [[nodiscard]] bool gets(const std::vector<std::string>& what) const {
    if (eventually([&] { return all() == what; })) return true;
    UNSCOPED_INFO("it got " << Catch::StringMaker<std::vector<std::string>>::convert(all()));
    return false;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> all_;
};

mqtt_options as(const std::string& id, const mosquitto_broker& of, std::vector<std::string> topics = {}) {
  return {.port = of.port(),
          .client_id = id,
          .topics = std::move(topics),
          .reconnect_after = 20ms,
          .longest_reconnect_after = 100ms};
}

bool connects(const mqtt& one) {
  return eventually([&] { return one.connected(); });
}

std::vector<std::string> numbers(int first, int last) {
  std::vector<std::string> all;
  for (int i = first; i <= last; ++i) all.push_back("t/1 " + std::to_string(i));
  return all;
}

void publish_numbers(mqtt& by, int first, int last) {
  for (int i = first; i <= last; ++i) CHECK(by.publish("t/1", std::to_string(i), 20s));
}

}  // namespace

TEST_CASE("what is published comes, byte by byte") {
  const mosquitto_broker broker;
  inbox got;
  const mqtt listener{as("listener", broker, {"t/+", "other/#"}), got.handler()};
  REQUIRE(connects(listener));
  mqtt speaker{as("speaker", broker)};
  const std::string bytes{"\0\xff\n", 3};
  CHECK(speaker.publish("t/1", bytes));
  CHECK(speaker.publish("t/2", ""));
  CHECK(speaker.publish("u/1", "not subscribed"));
  CHECK(speaker.publish("other/a/b", "x"));
  CHECK(speaker.wait_until_confirmed(20s));
  CHECK(speaker.confirmed() == 4);
  CHECK(got.gets({"t/1 " + bytes, "t/2 ", "other/a/b x"}));
}

TEST_CASE("a client that was away gets what was published meanwhile") {
  const mosquitto_broker broker;
  inbox got;
  mqtt speaker{as("speaker", broker)};
  {
    mqtt listener{as("listener", broker, {"t/+"}), got.handler()};
    REQUIRE(connects(listener));
    publish_numbers(speaker, 1, 3);
    CHECK(got.gets(numbers(1, 3)));
  }
  publish_numbers(speaker, 4, 200);
  CHECK(speaker.wait_until_confirmed(20s));
  const mqtt again{as("listener", broker, {"t/+"}), got.handler()};
  CHECK(got.gets(numbers(1, 200)));
}

TEST_CASE("a broker that is restarted is connected to again, and nothing is lost") {
  mosquitto_broker broker;
  inbox got;
  const mqtt listener{as("listener", broker, {"t/+"}), got.handler()};
  mqtt speaker{as("speaker", broker)};
  REQUIRE(connects(listener));
  publish_numbers(speaker, 1, 10);
  CHECK(speaker.wait_until_confirmed(20s));
  broker.stop();
  CHECK(eventually([&] { return !listener.connected() && !speaker.connected(); }));
  auto publishing = support::on_thread([&] { publish_numbers(speaker, 11, 100); });  // it waits
  broker.start();
  publishing.get();
  CHECK(got.gets(numbers(1, 100)));
  CHECK(speaker.wait_until_confirmed(20s));
  CHECK(listener.connected());
  CHECK(listener.connections() == 2);
}

TEST_CASE("a broker that has lost the session is subscribed to again") {
  mosquitto_broker broker;
  inbox got;
  const mqtt listener{as("listener", broker, {"t/+"}), got.handler()};
  REQUIRE(connects(listener));
  broker.kill();  // it has written nothing down yet
  broker.start();
  REQUIRE(eventually([&] { return listener.connections() == 2 && listener.connected(); }));
  mqtt speaker{as("speaker", broker)};
  publish_numbers(speaker, 1, 3);
  CHECK(got.gets(numbers(1, 3)));
}

TEST_CASE("a client may be there before its broker") {
  mosquitto_broker broker;
  broker.kill();
  inbox got;
  const mqtt listener{as("listener", broker, {"t/+"}), got.handler()};
  mqtt speaker{as("speaker", broker)};
  CHECK_FALSE(speaker.publish("t/1", "x", 20ms));
  CHECK_FALSE(listener.connected());
  broker.start();
  CHECK(connects(listener));
  publish_numbers(speaker, 1, 1);
  CHECK(got.gets(numbers(1, 1)));
}

TEST_CASE("a handler that throws ends nothing") {
  const mosquitto_broker broker;
  inbox got;
  const auto keep = got.handler();
  const mqtt listener{as("listener", broker, {"t/+"}), [&](std::string_view topic, std::string_view payload) {
                        keep(topic, payload);
                        throw std::runtime_error{"no"};
                      }};
  REQUIRE(connects(listener));
  mqtt speaker{as("speaker", broker)};
  publish_numbers(speaker, 1, 5);
  CHECK(got.gets(numbers(1, 5)));
}

TEST_CASE("a publisher waits while too much is not confirmed, and is told when that does not change") {
  mosquitto_broker broker;
  auto how = as("speaker", broker);
  how.max_unconfirmed = 3;
  mqtt speaker{how};
  REQUIRE(connects(speaker));
  broker.pause();
  for (int i = 0; i < 3; ++i) CHECK(speaker.publish("t/1", "x"));
  CHECK_FALSE(speaker.publish("t/1", "x", 20ms));
  CHECK_FALSE(speaker.wait_until_confirmed(20ms));
  broker.resume();
  CHECK(speaker.publish("t/1", "x", 20s));
  CHECK(speaker.wait_until_confirmed(20s));
  CHECK(speaker.confirmed() == 4);
}

TEST_CASE("stop waits for the handler, but not for ever") {
  const support::must_end in_time{};
  const mosquitto_broker broker;
  support::gate inside;
  support::gate release;
  std::atomic<int> calls = 0;
  mqtt listener{as("listener", broker, {"t/+"}), [&](std::string_view, std::string_view) {
                  ++calls;
                  inside.open();
                  release.wait();
                }};
  const support::opens_at_end at_end{release};
  REQUIRE(connects(listener));
  mqtt speaker{as("speaker", broker)};
  publish_numbers(speaker, 1, 3);
  REQUIRE(inside.wait());
  CHECK_FALSE(listener.stop(20ms));
  release.open();
  CHECK(listener.stop(20s));
  const int before = calls;
  publish_numbers(speaker, 4, 10);
  CHECK(speaker.wait_until_confirmed(20s));
  CHECK(calls == before);
}

TEST_CASE("stop ends a client whose broker accepts the connection and says nothing") {
  const support::must_end in_time{};
  const int silent = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = support::loopback(0);
  socklen_t size = sizeof address;
  REQUIRE(::bind(silent, reinterpret_cast<const sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(silent, 5) == 0);
  REQUIRE(::getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  mqtt one{{.port = ntohs(address.sin_port), .client_id = "one"}};
  CHECK_FALSE(one.publish("t/1", "x", 50ms));
  CHECK(one.stop());
  CHECK_FALSE(one.connected());
  CHECK_FALSE(one.publish("t/1", "x"));
  ::close(silent);
}
