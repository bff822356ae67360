// The machine of a push connection against the replies of a real server.

#include "engine/push_machine.hpp"

#include "engine/connect.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/command.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <poll.h>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using namespace tenantry::detail;
using testing::redis_server;

constexpr auto patience = 20s;

net::socket open(const client_options& options) {
  net::resolver names;
  connect_result opened = detail::connect(options, names, net::clock::now() + patience, {});
  REQUIRE_FALSE(opened.failed);
  REQUIRE(opened.how == net::ready::io);
  return std::move(opened.socket);
}

/// A command on a connection that expects nothing else.
reply ask(const net::socket& on, const command& what) {
  REQUIRE(on.send(what.bytes()).size == what.bytes().size());
  resp::reply_reader reader{{}};
  for (;;) {
    if (auto answer = reader.next()) return *answer;
    REQUIRE(net::wait(on.fd(), POLLIN, net::clock::now() + patience, {}) == net::ready::io);
    const net::transfer got = on.receive(reader.room());
    REQUIRE(got.how == net::transfer::status::done);
    reader.filled(got.size);
  }
}

/// Drives a machine in the thread of the test.
struct push_connection {
  client_options to;
  push_machine machine;
  net::socket socket;
  std::vector<push_event> events;
  bool lost = false;

  explicit push_connection(client_options options, const push_options& how = {})
      : to{std::move(options)}, machine{how} {}

  void connect() {
    socket = open(to);
    lost = false;
    machine.connected(net::clock::now(), ask(socket, command{"CLIENT", "ID"}).integer());
  }

  /// Runs until the condition holds.
  template <class Condition>
  void run_until(Condition condition) {
    const auto deadline = net::clock::now() + patience;
    while (!condition()) {
      REQUIRE(net::clock::now() < deadline);
      while (machine.has_output()) {
        const std::string_view bytes = machine.output();
        if (bytes.empty()) break;
        const net::transfer sent = socket.send(bytes);
        if (sent.how != net::transfer::status::done) break;
        machine.wrote(sent.size);
      }
      net::wait(socket.fd(), POLLIN, std::min(deadline, machine.next_wakeup().value_or(deadline)), {});
      const net::transfer got = socket.receive(machine.room());
      const auto now = net::clock::now();
      if (got.how == net::transfer::status::done) machine.received(got.size, now, events);
      if (got.how == net::transfer::status::ended || got.how == net::transfer::status::failed) {
        lost = true;
        machine.disconnected({.code = errc::connection_lost, .what = execution::unknown, .detail = {}}, events);
        return;
      }
      machine.tick(now, events);
    }
  }

  template <class Event>
  [[nodiscard]] std::size_t count() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(events, [](const push_event& each) { return std::holds_alternative<Event>(each); }));
  }
  /// The next event of this type, which is taken out.
  template <class Event>
  Event next() {
    run_until([this] { return count<Event>() > 0; });
    const auto at =
        std::ranges::find_if(events, [](const push_event& each) { return std::holds_alternative<Event>(each); });
    REQUIRE(at != events.end());
    Event found = std::get<Event>(std::move(*at));
    events.erase(at);
    return found;
  }
  void settle() {
    run_until([this] { return machine.ready() && !machine.has_output(); });
  }
};

client_options options_of(const redis_server& server) { return client_options::from_url(server.url()); }

}  // namespace

TEST_CASE("a real server confirms each kind of name, delivers, and lets go") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  push_connection feed{options_of(server)};
  feed.machine.want(push_kind::channel, "news");
  feed.machine.want(push_kind::pattern, "ne*");
  feed.machine.want(push_kind::shard, "news");
  feed.connect();
  feed.settle();
  CHECK(feed.count<push::confirmed>() == 3);
  CHECK(feed.count<push::in_sync>() == 1);

  const std::string bytes{"a\0b\r\nc\xff", 7};
  CHECK(redis.execute("PUBLISH", "news", bytes).integer() == 2);
  CHECK(redis.execute("SPUBLISH", "news", "shard").integer() == 1);
  const auto first = feed.next<push::message>();
  const auto second = feed.next<push::message>();
  const auto third = feed.next<push::message>();
  CHECK((first.kind == push_kind::channel && first.channel == "news" && first.payload == bytes));
  CHECK((second.kind == push_kind::pattern && second.channel == "news" && second.pattern == "ne*"));
  CHECK((third.kind == push_kind::shard && third.channel == "news" && third.payload == "shard"));

  feed.machine.unwant(push_kind::channel, "news");
  feed.machine.unwant(push_kind::pattern, "ne*");
  feed.machine.unwant(push_kind::shard, "news");
  feed.machine.want(push_kind::channel, "last");  // its confirmation comes after the others
  feed.settle();
  feed.run_until([&] { return redis.execute("PUBSUB", "NUMPAT").integer() == 0; });
  CHECK(redis.execute("PUBLISH", "news", "x").integer() == 0);
  CHECK(redis.execute("SPUBLISH", "news", "x").integer() == 0);
}

TEST_CASE("a real server answers PING in its place, with subscriptions and without") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  push_connection feed{options_of(server), {.heartbeat = 20ms, .heartbeat_timeout = patience}};
  feed.connect();
  const auto pings = [&] {
    const std::string stats = redis.execute("INFO", "commandstats").str();
    const auto at = stats.find("cmdstat_ping:calls=");
    return at == std::string::npos ? 0 : std::stoi(stats.substr(at + 19));
  };
  const int before = pings();
  feed.run_until([&] { return pings() > before + 2; });  // each needs the answer to the one before
  feed.machine.want(push_kind::channel, "a");
  feed.settle();
  const int subscribed = pings();
  feed.run_until([&] { return pings() > subscribed + 2; });
  CHECK_FALSE(feed.lost);
  CHECK(feed.count<push::dead>() == 0);
}

TEST_CASE("a real server refuses names by its ACL, and the others are subscribed") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  redis.execute("ACL", "SETUSER", "acme", "on", ">secret", "+@all", "resetchannels", "&alarms:acme:*", "&sync");
  client_options options = options_of(server);
  options.username = "acme";
  options.password = "secret";
  push_connection feed{options};
  std::size_t allowed = 0;
  for (int i = 0; i < 300; ++i) {
    const bool foreign = i % 50 == 7;
    feed.machine.want(push_kind::channel, (foreign ? "alarms:other:" : "alarms:acme:") + std::to_string(i));
    if (!foreign) ++allowed;
  }
  feed.machine.want(push_kind::pattern, "alarms:acme:*");
  feed.machine.want(push_kind::pattern, "alarms:*");
  feed.machine.want(push_kind::shard, "alarms:other:1");
  feed.connect();
  feed.settle();
  CHECK(feed.count<push::confirmed>() == allowed + 1);
  CHECK(feed.count<push::refused>() == 8);
  CHECK(feed.count<push::in_sync>() == 1);
  for (int i = 0; i < 8; ++i) CHECK(feed.next<push::refused>().text.starts_with("NOPERM"));
  CHECK(redis.execute("PUBLISH", "alarms:acme:1", "x").integer() == 2);
  CHECK(redis.execute("PUBLISH", "alarms:other:7", "x").integer() == 0);
}

TEST_CASE("a real server announces changed keys to the redirect target, and a flush as all of them") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  push_connection feed{options_of(server)};
  feed.machine.want(push_kind::channel, invalidation_channel);
  feed.connect();
  feed.settle();
  const net::socket data = open(options_of(server));
  const auto on = ask(data, command{"CLIENT", "TRACKING", "ON", "REDIRECT", feed.machine.client_id().value()});
  CHECK(on.str() == "OK");
  redis.execute("SET", "k", "1");
  CHECK(ask(data, command{"GET", "k"}).str() == "1");
  redis.execute("SET", "k", "2");
  CHECK(feed.next<push::invalidated>().keys == std::vector<std::string>{"k"});
  redis.execute("PUBLISH", invalidation_channel, "k");  // not by the server: not an invalidation
  redis.execute("FLUSHALL");
  CHECK_FALSE(feed.next<push::invalidated>().keys.has_value());
  CHECK(feed.count<push::invalidated>() == 0);
  CHECK(feed.machine.dropped() == 1);
}

TEST_CASE("after the connection was killed, everything wanted is subscribed on the next one") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  push_connection feed{options_of(server)};
  for (int i = 0; i < 2000; ++i) feed.machine.want(push_kind::channel, "c" + std::to_string(i));
  feed.connect();
  feed.settle();
  CHECK(feed.count<push::confirmed>() == 2000);
  feed.events.clear();
  redis.execute("CLIENT", "KILL", "TYPE", "pubsub");
  feed.run_until([&] { return feed.lost; });
  CHECK(feed.count<push::ended>() == 1);
  feed.connect();
  CHECK(feed.machine.generation() == 2);
  feed.settle();
  CHECK(feed.count<push::confirmed>() == 2000);
  CHECK(redis.execute("PUBSUB", "CHANNELS").elements().size() == 2000);
}

TEST_CASE("a server that is frozen is found dead") {
  support::need_redis();
  redis_server server;
  push_connection feed{options_of(server), {.heartbeat = 20ms, .heartbeat_timeout = 200ms}};
  feed.machine.want(push_kind::channel, "a");
  feed.connect();
  feed.settle();
  server.pause();
  feed.run_until([&] { return feed.count<push::dead>() > 0; });
  server.resume();
  CHECK(feed.count<push::dead>() == 1);
}
