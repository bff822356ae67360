// Subscribers and publishers against a real server.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::redis_rig;

inline constexpr tn::channel_schema<"alarms:{tenant}"> alarms;
inline constexpr tn::channel_schema<"news:{tenant}:{topic}"> news;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};
constexpr auto patience = 20s;
using text = tn::subscription<std::string>;

struct note {
  std::string id;
  int level = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(note, id, level)

/// The next event in words.
template <class Feed>
std::string next(Feed& from, std::chrono::milliseconds at_most = patience) {
  auto event = from.next_for(at_most);
  if (!event) return "nothing";
  if (const auto* came = std::get_if<tn::message<std::string>>(&*event)) return came->value;
  if (const auto* behind = std::get_if<tn::lagged>(&*event)) return '-' + std::to_string(behind->dropped);
  if (const auto* end = std::get_if<tn::closed>(&*event)) return "closed: " + std::string{to_string(end->cause)};
  return "gap";
}

std::int64_t listeners(const redis_rig& redis, const tn::channel& of) {
  return redis.client.execute("PUBSUB", "NUMSUB", of)[1].integer();
}

}  // namespace

TEST_CASE(
    "what is published after subscribe returned is delivered, in order, to each listener, over one subscription") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  std::vector<text> feeds;
  for (int i = 0; i < 10; ++i) feeds.push_back(sub.subscribe<std::string>(alarms(acme)));
  CHECK(listeners(redis, alarms(acme)) == 1);
  for (int i = 0; i < 100; ++i) CHECK(pub.publish(alarms(acme), std::to_string(i)) == 1);
  CHECK(pub.publish(alarms(globex), "not for acme") == 0);
  for (text& each : feeds) {
    for (int i = 0; i < 100; ++i) REQUIRE(next(each) == std::to_string(i));
    CHECK_FALSE(each.try_next());
    const tn::subscription_counters all = each.counters();
    CHECK(all.received == 100);
    CHECK(all.delivered == 100);
    CHECK(all.queued == 0);
  }
  CHECK(sub.counters().messages == 100);
  CHECK(sub.counters().deliveries == 1000);
  CHECK(sub.counters().subscriptions == 10);
  feeds.clear();
  CHECK(eventually([&] { return listeners(redis, alarms(acme)) == 0; }));
  CHECK(sub.counters().channels == 0);
}

TEST_CASE("payloads of any bytes arrive as they were, and values through the codec") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  auto raw = sub.subscribe<std::string>(alarms(acme));
  auto typed = sub.subscribe<note>(alarms(acme));
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  pub.publish(alarms(acme), all);
  pub.publish(alarms(acme), "");
  pub.publish(alarms(acme), note{.id = "a1", .level = 3});
  CHECK(next(raw) == all);
  CHECK(next(raw).empty());
  CHECK(next(raw) == R"({"id":"a1","level":3})");
  const auto event = typed.next_for(patience);  // what is no note is left out
  REQUIRE(event);
  const auto& came = std::get<tn::message<note>>(*event);
  CHECK(came.value.id == "a1");
  CHECK(came.value.level == 3);
  CHECK(came.channel() == "alarms:acme");
  CHECK(came.payload() == R"({"id":"a1","level":3})");
  CHECK(typed.counters().undecodable == 2);
  CHECK(typed.counters().delivered == 3);
}

TEST_CASE("a pattern stays within its tenant and schema") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  auto feed = sub.subscribe<std::string>(news.all(acme));
  CHECK(pub.publish(news(globex, "x"), "other") == 0);
  CHECK(pub.publish(news(tn::tenant_id{"acme2"}, "x"), "other") == 0);
  CHECK(pub.publish(news(acme, "sport"), "ours") == 1);
  const auto event = feed.next_for(patience);
  REQUIRE(event);
  const auto& came = std::get<tn::message<std::string>>(*event);
  CHECK(came.value == "ours");
  CHECK(news.parse(came.channel())->get<"topic">() == "sport");
  auto exact = sub.subscribe<std::string>(news(acme, "sport"));
  CHECK(pub.publish(news(acme, "sport"), "twice") == 2);
  CHECK(next(feed) == "twice");
  CHECK(next(exact) == "twice");
}

TEST_CASE(
    "after an outage there is one gap for each listener, before the first new message, and none for who came later") {
  support::need_redis();
  const tn::testing::redis_server server;
  const tn::client redis{server.url()};
  const tn::publisher pub{redis};
  tn::subscriber sub{redis};
  auto a = sub.subscribe<std::string>(alarms(acme));
  auto b = sub.subscribe<std::string>(alarms(acme));
  auto other = sub.subscribe<std::string>(alarms(globex));
  pub.publish(alarms(acme), "before");
  for (std::uint64_t outage = 1; outage <= 3; ++outage) {
    CHECK(next(a) == "before");
    CHECK(next(b) == "before");
    CHECK(redis.execute("CLIENT", "KILL", "TYPE", "pubsub").integer() == 1);
    REQUIRE(eventually([&] { return sub.counters().outages == outage; }));
    REQUIRE(eventually([&] { return redis.execute("PUBSUB", "NUMSUB", alarms(acme))[1].integer() == 1; }));
    auto late = sub.subscribe<std::string>(alarms(acme));
    pub.publish(alarms(acme), "before");  // the next outage
    const auto event = a.next_for(patience);
    REQUIRE(event);
    const tn::gap& missed = std::get<tn::gap>(*event);
    CHECK(missed.cause == tn::gap_cause::connection_lost);
    CHECK(missed.to >= missed.from);
    CHECK_FALSE(missed.lost);
    CHECK(next(b) == "gap");
    CHECK(next(other) == "gap");
    CHECK(next(late) == "before");
  }
  CHECK(next(a) == "before");
  CHECK(a.counters().gaps == 3);
}

TEST_CASE("a server that hangs is noticed, and one that was restarted is subscribed to again") {
  support::need_redis();
  tn::testing::redis_server server;
  const tn::client redis{server.url()};
  tn::subscriber sub{redis, {.heartbeat = 50ms, .heartbeat_timeout = 100ms}};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  server.pause();
  REQUIRE(eventually([&] { return sub.counters().outages == 1; }));
  server.resume();
  CHECK(next(feed) == "gap");
  server.kill();
  REQUIRE(eventually([&] { return sub.counters().outages == 2; }));
  server.start();
  CHECK(next(feed) == "gap");
  const tn::publisher pub{redis};
  REQUIRE(eventually([&] {
    try {
      return pub.publish(alarms(acme), "again") == 1;
    } catch (const tn::error&) {
      return false;
    }
  }));
  CHECK(next(feed) == "again");
}

TEST_CASE("a slow listener loses what its policy says, and no other one anything") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  auto quick = sub.subscribe<std::string>(alarms(acme), {.capacity = 100'000});
  auto oldest = sub.subscribe<std::string>(alarms(acme), {.capacity = 10});
  auto newest = sub.subscribe<std::string>(alarms(acme), {.capacity = 10, .overflow = tn::overflow::drop_newest});
  auto ended = sub.subscribe<std::string>(alarms(acme), {.capacity = 10, .overflow = tn::overflow::disconnect});
  std::vector<tn::outgoing> all;
  for (int i = 0; i < 1000; ++i) all.push_back({.to = alarms(acme), .payload = std::to_string(i)});
  pub.publish_all(all);
  for (int i = 0; i < 1000; ++i) REQUIRE(next(quick) == std::to_string(i));
  CHECK(next(oldest) == "-990");
  CHECK(next(oldest) == "990");
  for (int i = 0; i < 10; ++i) CHECK(next(newest) == std::to_string(i));
  CHECK(next(newest) == "-990");
  for (int i = 0; i < 10; ++i) CHECK(next(ended) == std::to_string(i));
  CHECK(next(ended) == "closed: slow");
  CHECK_FALSE(ended.next());
  CHECK(sub.counters().subscriptions == 3);
}

TEST_CASE(
    "a channel that the server refuses is an error of that subscription alone, and one that it refuses later closes "
    "it") {
  support::need_redis();
  const tn::testing::redis_server server;
  const tn::client admin{server.url()};
  admin.execute("ACL", "SETUSER", "limited", "on", ">secret", "+@all", "resetchannels", "&alarms:acme",
                "&alarms:globex");
  auto options = tn::client_options::from_url(server.url());
  options.username = "limited";
  options.password = "secret";
  const tn::client redis{options};
  tn::subscriber sub{redis};
  auto ours = sub.subscribe<std::string>(alarms(acme));
  auto theirs = sub.subscribe<std::string>(alarms(globex));
  try {
    auto refused = sub.subscribe<std::string>(alarms(tn::tenant_id{"initech"}));
    FAIL("subscribed");
  } catch (const tn::server_error& why) {
    CHECK(why.code() == tn::errc::no_permission);
  }
  const tn::publisher pub{admin};
  pub.publish(alarms(acme), "still here");
  CHECK(next(ours) == "still here");
  admin.execute("ACL", "SETUSER", "limited", "resetchannels", "&alarms:globex");  // ends the connection
  CHECK(next(ours) == "closed: refused");
  CHECK(next(theirs) == "gap");
  pub.publish(alarms(globex), "goes on");
  CHECK(next(theirs) == "goes on");
}

TEST_CASE("after unsubscribe nothing is delivered, also to who waits") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  pub.publish(alarms(acme), "queued");
  REQUIRE(eventually([&] { return feed.counters().queued == 1; }));
  auto waiting = sub.subscribe<std::string>(alarms(acme));
  auto waits = support::on_thread([&] { return waiting.next().has_value() && waiting.next().has_value(); });
  feed.unsubscribe();
  feed.unsubscribe();
  CHECK_FALSE(feed.next());
  CHECK(feed.counters().dropped == 1);
  waiting.unsubscribe();
  CHECK_FALSE(waits.get());
  CHECK(eventually([&] { return listeners(redis, alarms(acme)) == 0; }));
}

TEST_CASE("waiting ends with its time, with its token, and with the subscriber") {
  const redis_rig redis;
  auto sub = std::make_unique<tn::subscriber>(redis.client);
  auto feed = sub->subscribe<std::string>(alarms(acme));
  CHECK_FALSE(feed.next_for(10ms));
  std::stop_source stop;
  auto waits = support::on_thread([&] { return feed.next(stop.get_token()).has_value(); });
  stop.request_stop();
  CHECK_FALSE(waits.get());
  auto again = support::on_thread([&] { return next(feed); });
  sub.reset();
  CHECK(again.get() == "closed: stopped");
  CHECK_FALSE(feed.next());
}

TEST_CASE("coroutines subscribe, wait and stop as threads do") {
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  const tn::publisher pub{redis.client};
  std::stop_source stop;
  std::atomic<bool> subscribed = false;
  const auto listen = [](tn::subscriber& to, std::stop_token until, std::atomic<bool>& there) -> tn::task<std::string> {
    tn::channel c = alarms(acme);
    auto subscribing = to.async_subscribe<std::string>(c);
    text feed = co_await std::move(subscribing);
    there = true;
    std::string seen;
    for (;;) {
      auto waiting = feed.async_next(until);
      auto event = co_await std::move(waiting);
      if (!event) co_return seen;
      seen += std::get<tn::message<std::string>>(*event).value;
      if (seen.size() >= 100) there = false;
    }
  };
  auto result = support::on_thread([&] { return tn::sync_wait(listen(sub, stop.get_token(), subscribed)); });
  REQUIRE(eventually([&] { return subscribed.load(); }));
  for (int i = 0; i < 100; ++i) CHECK(tn::sync_wait(pub.async_publish(alarms(acme), "x")) == 1);
  REQUIRE(eventually([&] { return !subscribed; }));
  stop.request_stop();
  CHECK(result.get() == std::string(100, 'x'));

  text feed = sub.subscribe<std::string>(alarms(acme));
  CHECK_FALSE(tn::sync_wait(feed.async_next_for(1ms)));
  pub.publish(alarms(acme), "y");
  CHECK(std::get<tn::message<std::string>>(*tn::sync_wait(feed.async_next_for(20s))).value == "y");
}

TEST_CASE("subscribing without a server fails in time, and says why; with one that comes back it succeeds") {
  support::need_redis();
  tn::testing::redis_server server;
  const tn::client redis{server.url()};
  tn::subscriber sub{redis};
  server.kill();
  try {
    auto feed = sub.subscribe<std::string>(alarms(acme), {.timeout = 200ms});
    FAIL("subscribed");
  } catch (const tn::timeout_error& why) {
    CHECK(std::string{why.what()}.find("refused") != std::string::npos);
  }
  CHECK(sub.counters().subscriptions == 0);
  auto waits = support::on_thread([&] { return sub.subscribe<std::string>(alarms(acme), {.timeout = patience}); });
  server.start();
  auto feed = waits.get();
  CHECK_FALSE(feed.try_next());  // no gap: it was not there before
}

TEST_CASE("many threads that subscribe and leave, while connections are lost, leave what is wanted") {
  const redis_rig redis;
  tn::subscriber sub{redis.client, {.connections = 3}};
  std::atomic<bool> stop = false;
  std::thread killer{[&] {
    while (!stop) {
      redis.client.execute("CLIENT", "KILL", "TYPE", "pubsub");
      std::this_thread::sleep_for(5ms);
    }
  }};
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        try {
          auto shared = sub.subscribe<std::string>(alarms(acme), {.timeout = patience});
          auto own = sub.subscribe<std::string>(news(tn::tenant_id{"t" + std::to_string(t)}, std::to_string(i)),
                                                {.timeout = patience});
        } catch (const tn::error&) {
          ++failed;
        }
      }
    });
  }
  for (std::thread& each : threads) each.join();
  stop = true;
  killer.join();
  CHECK(failed == 0);
  auto last = sub.subscribe<std::string>(alarms(acme), {.timeout = patience});
  CHECK(eventually([&] { return redis.client.execute("PUBSUB", "CHANNELS").elements().size() == 1; }));
  CHECK(listeners(redis, alarms(acme)) == 1);
  const tn::publisher pub{redis.client};
  REQUIRE(eventually([&] { return pub.publish(alarms(acme), "end") == 1; }));
  std::string seen = next(last);
  while (seen == "gap") seen = next(last);
  CHECK(seen == "end");
}

TEST_CASE("options that cannot be are refused by name") {
  const redis_rig redis;
  const auto names = [](auto&& make, std::string_view field) {
    try {
      make();
    } catch (const tn::invalid_option& why) {
      return std::string_view{why.what()}.starts_with(field);
    }
    return false;
  };
  CHECK(names([&] { tn::subscriber{redis.client, {.connections = 0}}; }, "subscriber_options.connections"));
  CHECK(names([&] { tn::subscriber{redis.client, {.heartbeat = 0ms}}; }, "subscriber_options.heartbeat"));
  tn::subscriber sub{redis.client};
  CHECK(names([&] { auto f = sub.subscribe<std::string>(alarms(acme), {.capacity = 0}); },
              "subscription_options.capacity"));
}
