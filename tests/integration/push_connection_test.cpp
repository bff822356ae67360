// A push connection on its I/O thread, against a real server.

#include "engine/push_connection.hpp"

#include "engine/connect.hpp"
#include "resp/reply_reader.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/command.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <poll.h>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using namespace tenantry::detail;
using support::eventually;
using testing::redis_server;

constexpr auto patience = 20s;

client_options options_of(const redis_server& server) { return client_options::from_url(server.url()); }

/// A push connection, and what it has told.
class feed {
 public:
  explicit feed(client_options to, const push_options& how = {}, std::function<void(feed&, push_event&)> also = {})
      : options_{std::move(to)}, also_{std::move(also)} {
    connection_.emplace(options_, loop_, how, [this](push_event& what) {
      if (also_) also_(*this, what);
      const std::lock_guard held{mutex_};
      events_.push_back(what);
    });
    opened_ = true;
  }

  push_connection& operator*() { return *connection_; }
  push_connection* operator->() { return &*connection_; }
  /// The listener may be told of something before the constructor is over.
  [[nodiscard]] bool opened() const { return opened_; }
  void destroy() { connection_.reset(); }

  template <class Event>
  [[nodiscard]] std::vector<Event> all() const {
    const std::lock_guard held{mutex_};
    std::vector<Event> found;
    for (const push_event& each : events_) {
      if (const auto* one = std::get_if<Event>(&each)) found.push_back(*one);
    }
    return found;
  }
  /// Waits until there are so many of them.
  template <class Event>
  std::vector<Event> wait_for(std::size_t count = 1) const {
    REQUIRE(eventually([&] { return all<Event>().size() >= count; }));
    return all<Event>();
  }
  push_connection::identity wait_connected() {
    REQUIRE(eventually([&] { return connection_->connected_as().has_value(); }));
    return connection_->connected_as().value();
  }
  [[nodiscard]] std::size_t told() const {
    const std::lock_guard held{mutex_};
    return events_.size();
  }

 private:
  client_options options_;
  std::function<void(feed&, push_event&)> also_;
  mutable std::mutex mutex_;
  std::vector<push_event> events_;
  std::atomic<bool> opened_ = false;
  io_loop loop_;
  std::optional<push_connection> connection_;
};

net::socket open(const client_options& options) {
  net::resolver names;
  connect_result opened = detail::connect(options, names, net::clock::now() + patience, {});
  REQUIRE_FALSE(opened.failed);
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

}  // namespace

TEST_CASE("a push connection delivers the messages of its names in order, each once") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  feed news{options_of(server)};
  news->want(push_kind::channel, "news");
  news->want(push_kind::pattern, "al*");
  news->want(push_kind::shard, "shard");
  news.wait_for<push::confirmed>(3);
  const std::string bytes{"a\0b\r\nc\xff", 7};
  CHECK(redis.execute("PUBLISH", "alarms", bytes).integer() == 1);
  CHECK(redis.execute("SPUBLISH", "shard", "s").integer() == 1);
  for (int i = 0; i < 1000; ++i) redis.execute("PUBLISH", "news", i);
  const auto messages = news.wait_for<push::message>(1002);
  REQUIRE(messages.size() == 1002);
  CHECK((messages[0].kind == push_kind::pattern && messages[0].pattern == "al*" && messages[0].channel == "alarms"));
  CHECK(messages[0].payload == bytes);
  CHECK((messages[1].kind == push_kind::shard && messages[1].channel == "shard"));
  for (std::size_t i = 0; i < 1000; ++i) {
    CHECK((messages[i + 2].channel == "news" && messages[i + 2].payload == std::to_string(i)));
  }
  CHECK(news->want(push_kind::channel, "news") == standing::confirmed);
}

TEST_CASE("a name that is not wanted any more brings no messages") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  feed news{options_of(server)};
  news->want(push_kind::channel, "left");
  news->want(push_kind::channel, "kept");
  news.wait_for<push::confirmed>(2);
  news->unwant(push_kind::channel, "left");
  CHECK(eventually([&] { return redis.execute("PUBLISH", "left", "x").integer() == 0; }));
  redis.execute("PUBLISH", "kept", "last");
  const auto messages = news.wait_for<push::message>();
  CHECK(messages.size() == 1);
  CHECK(messages.front().payload == "last");
}

TEST_CASE("after its connection was killed a push connection has all names again, in a new generation") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  feed news{options_of(server)};
  for (int i = 0; i < 600; ++i) news->want(push_kind::channel, "c" + std::to_string(i));
  news.wait_for<push::confirmed>(600);
  const auto first = news.wait_connected();
  for (std::uint64_t round = 1; round <= 3; ++round) {
    CHECK(redis.execute("CLIENT", "KILL", "TYPE", "pubsub").integer() == 1);
    const auto synced = news.wait_for<push::in_sync>(round + 1);
    CHECK(synced.back().generation == first.generation + round);
    CHECK(redis.execute("PUBSUB", "CHANNELS").elements().size() == 600);
  }
  CHECK(news.all<push::ended>().size() == 3);
  CHECK(news.all<push::confirmed>().size() == 4 * 600);
  CHECK(news.wait_connected().client_id > first.client_id);
  CHECK(redis.execute("PUBLISH", "c599", "again").integer() == 1);
  CHECK(news.wait_for<push::message>().front().generation == first.generation + 3);
}

TEST_CASE("names that are wanted and left while connections are killed end up as they were wanted last") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  feed news{options_of(server)};
  for (int i = 0; i < 3000; ++i) {
    const std::string name = "c" + std::to_string(i % 40);
    i / 40 % 2 == 0 || i % 40 < 20 ? void(news->want(push_kind::channel, name))
                                   : news->unwant(push_kind::channel, name);
    if (i % 100 == 99) redis.execute("CLIENT", "KILL", "TYPE", "pubsub");
  }
  for (int i = 20; i < 40; ++i) news->unwant(push_kind::channel, "c" + std::to_string(i));
  for (int i = 0; i < 20; ++i) news->want(push_kind::channel, "c" + std::to_string(i));
  CHECK(eventually([&] { return redis.execute("PUBSUB", "CHANNELS").elements().size() == 20; }));
  CHECK(redis.execute("PUBSUB", "CHANNELS", "c[23]?").elements().empty());
}

TEST_CASE("a push connection is a redirect target: changed keys, and a flush, are told") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  feed changes{options_of(server)};
  changes->want(push_kind::channel, invalidation_channel);
  changes.wait_for<push::in_sync>();
  const auto target = changes.wait_connected();
  const net::socket data = open(options_of(server));
  REQUIRE(ask(data, command{"CLIENT", "TRACKING", "ON", "REDIRECT", target.client_id}).str() == "OK");
  redis.execute("SET", "k", "1");
  CHECK(ask(data, command{"GET", "k"}).str() == "1");
  redis.execute("SET", "k", "2");
  const auto first = changes.wait_for<push::invalidated>();
  CHECK(first.front().keys == std::vector<std::string>{"k"});
  CHECK(first.front().generation == target.generation);
  redis.execute("FLUSHALL");
  const auto flushed = changes.wait_for<push::invalidated>(2);
  CHECK_FALSE(flushed.back().keys.has_value());
}

TEST_CASE("names that the server's ACL refuses are told, and the others serve") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  redis.execute("ACL", "SETUSER", "acme", "on", ">secret", "+@all", "resetchannels", "&alarms:acme:*");
  client_options options = options_of(server);
  options.username = "acme";
  options.password = "secret";
  feed alarms{options};
  alarms->want(push_kind::channel, "alarms:other:1");
  alarms->want(push_kind::channel, "alarms:acme:1");
  CHECK(alarms.wait_for<push::refused>().front().name == "alarms:other:1");
  CHECK(alarms.wait_for<push::confirmed>().front().name == "alarms:acme:1");
}

TEST_CASE("a server that is frozen is found dead by the heartbeat, and served again when it goes on") {
  support::need_redis();
  redis_server server;
  client_options options = options_of(server);
  options.connect_timeout = 200ms;
  feed news{options, {.heartbeat = 50ms, .heartbeat_timeout = 300ms}};
  news->want(push_kind::channel, "news");
  const auto first = news.wait_for<push::in_sync>();
  server.pause();
  CHECK(news.wait_for<push::dead>().front().generation >= first.front().generation);
  news.wait_for<push::ended>();
  CHECK_FALSE(news->connected_as().has_value());
  server.resume();
  CHECK(news.wait_for<push::in_sync>(2).back().generation > first.front().generation);
  client redis{server.url()};
  CHECK(eventually([&] { return redis.execute("PUBLISH", "news", "x").integer() == 1; }));
}

TEST_CASE("a push connection goes on trying until its server is there, and says why it has none") {
  support::need_redis();
  redis_server server;
  server.kill();
  feed news{options_of(server)};
  news->want(push_kind::channel, "news");
  REQUIRE(eventually([&] { return news->last_failure().has_value(); }));
  CHECK(news->last_failure()->code == errc::unreachable);
  CHECK_FALSE(news->connected_as().has_value());
  server.start();
  CHECK(news.wait_for<push::confirmed>().front().name == "news");
  CHECK_FALSE(news->last_failure().has_value());
}

TEST_CASE("a listener may want and leave names, and look at its connection") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  feed news{options_of(server), {}, [](feed& own, push_event& what) {
              const auto* one = std::get_if<push::message>(&what);
              if (one == nullptr || !own.opened() || !own->connected_as()) return;
              own->unwant(push_kind::channel, one->channel);
              own->want(push_kind::channel, one->payload);
            }};
  news->want(push_kind::channel, "c0");
  for (int i = 0; i < 20; ++i) {
    const std::string now = "c" + std::to_string(i);
    CHECK(eventually([&] { return redis.execute("PUBLISH", now, "c" + std::to_string(i + 1)).integer() == 1; }));
  }
  news.wait_for<push::confirmed>(21);
  CHECK(eventually([&] { return redis.execute("PUBSUB", "CHANNELS").elements().size() == 1; }));
}

TEST_CASE("a heartbeat that is set holds at once, also where nothing happens") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const auto pings = [&] {
    const std::string text = redis.execute("INFO", "commandstats").str();
    const std::string entry = "cmdstat_ping:calls=";
    const auto at = text.find(entry);
    return at == std::string::npos ? 0 : std::stoi(text.substr(at + entry.size()));
  };
  feed news{options_of(server), {.heartbeat = no_timeout}};
  news->want(push_kind::channel, "news");
  news.wait_for<push::in_sync>();
  news.wait_for<push::confirmed>();
  const int before = pings();
  news->set_heartbeat({.heartbeat = 20ms, .heartbeat_timeout = patience});
  CHECK(eventually([&] { return pings() >= before + 3; }));
  CHECK(news.all<push::ended>().empty());
}

TEST_CASE("a push connection may go at any time, and its listener hears nothing afterwards") {
  support::need_redis();
  redis_server server;
  client redis{server.url()};
  SECTION("while it connects") {
    for (int i = 0; i < 50; ++i) feed {
        options_of(server)
      } -> want(push_kind::channel, "news");
  }
  SECTION("while the server does not answer") {
    server.pause();
    client_options options = options_of(server);
    options.connect_timeout = 600s;
    for (int i = 0; i < 20; ++i) feed {
        options
      } -> want(push_kind::channel, "news");
    server.resume();
  }
  SECTION("while nobody listens") {
    for (int i = 0; i < 20; ++i) {
      feed lost{client_options::from_url("redis://127.0.0.1:1")};
      if (i % 2 == 0) CHECK(eventually([&] { return lost->last_failure().has_value(); }));
    }
  }
  SECTION("while it is connected and messages come in") {
    for (int i = 0; i < 20; ++i) {
      feed news{options_of(server)};
      news->want(push_kind::channel, "news");
      news.wait_for<push::confirmed>();
      for (int k = 0; k < 20; ++k) redis.execute("PUBLISH", "news", k);
      news.destroy();
      const std::size_t told = news.told();
      redis.execute("PUBLISH", "news", "late");
      CHECK(news.told() == told);
    }
  }
  CHECK(eventually([&] { return redis.with({.timeout = 20s}).execute("PUBSUB", "CHANNELS").elements().empty(); }));
}
