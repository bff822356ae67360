// Shard channels of subscribers and publishers.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::eventually;
using support::listening;
using support::news;
using support::next_of;
using support::redis_rig;
using support::shard_listening;
using support::text_feed;

inline constexpr tn::channel_schema<"events:{tenant}:{gateway}", tn::placement::tenant> placed;
const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};
constexpr tn::subscription_options on_shard{.scope = tn::channel_scope::shard};
constexpr tn::publisher_options to_shard{.scope = tn::channel_scope::shard};

}  // namespace

TEST_CASE("what is published in one scope reaches subscriptions of that scope only, also within one subscriber") {
  const redis_rig redis;
  const tn::publisher global{redis.client};
  const tn::publisher shard{redis.client, to_shard};
  tn::subscriber sub{redis.client};
  auto here = sub.subscribe<std::string>(news(acme, "x"), on_shard);
  CHECK(global.publish(news(acme, "x"), "nobody") == 0);
  auto there = sub.subscribe<std::string>(news(acme, "x"));
  auto pattern = sub.subscribe<std::string>(news.all(acme));
  CHECK(listening(redis.client, news(acme, "x")) == 1);
  CHECK(shard_listening(redis.client, news(acme, "x")) == 1);
  CHECK(sub.counters().channels == 3);
  CHECK(shard.publish(news(acme, "x"), "shard") == 1);
  CHECK(global.publish(news(acme, "x"), "global") == 2);
  CHECK(next_of(here) == "shard");
  CHECK(next_of(there) == "global");
  CHECK(next_of(pattern) == "global");
  for (text_feed* const each : {&here, &there, &pattern}) CHECK_FALSE(each->try_next());
  here.unsubscribe();
  CHECK(eventually([&] { return shard_listening(redis.client, news(acme, "x")) == 0; }));
  CHECK(global.publish(news(acme, "x"), "goes on") == 2);
  CHECK(next_of(there) == "goes on");
  CHECK_FALSE(here.next());
  CHECK(sub.counters().outages == 0);
}

TEST_CASE("a shard channel has any number of listeners over one subscription, and publishers of each kind") {
  const redis_rig redis;
  const tn::publisher pub{redis.client, to_shard};
  tn::subscriber sub{redis.client};
  std::vector<text_feed> feeds;
  for (int i = 0; i < 5; ++i) feeds.push_back(sub.subscribe<std::string>(placed(acme, "gw"), on_shard));
  feeds.push_back(tn::sync_wait(sub.async_subscribe<std::string>(placed(acme, "gw"), on_shard)));
  auto other = sub.subscribe<std::string>(placed(globex, "gw"), on_shard);
  CHECK(shard_listening(redis.client, placed(acme, "gw")) == 1);
  CHECK(pub.publish(placed(acme, "gw"), "1") == 1);
  CHECK(tn::sync_wait(pub.async_publish(placed(acme, "gw"), std::string_view{"2"})) == 1);
  const std::vector<tn::outgoing> batch{
      {placed(acme, "gw"), "3"}, {placed(acme, "away"), "nobody"}, {placed(acme, "gw"), "4"}};
  CHECK(pub.publish_all(batch) == std::vector<std::uint64_t>{1, 0, 1});
  for (text_feed& each : feeds) {
    for (const char* const expected : {"1", "2", "3", "4"}) CHECK(next_of(each) == expected);
    CHECK(support::adds_up(each.counters()));
  }
  CHECK_FALSE(other.try_next());
  CHECK(sub.counters().messages == 4);
  CHECK(sub.counters().deliveries == 24);
  CHECK(sub.counters().channels == 2);
  CHECK(sub.counters().subscriptions == 7);
}

TEST_CASE("a pattern of shard channels is refused, naming the option, and leaves nothing behind") {
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  const auto refused = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const tn::invalid_option& why) {
      return why.what();
    }
    return {};
  };
  CHECK(refused([&] {
          (void)sub.subscribe<std::string>(news.all(acme), on_shard);
        }).find("subscription_options.scope") != std::string::npos);
  CHECK(refused([&] {
          (void)tn::sync_wait(sub.async_subscribe<std::string>(news.all(acme), on_shard));
        }).find("subscription_options.scope") != std::string::npos);
  CHECK(sub.counters().subscriptions == 0);
  CHECK(support::patterns_listening(redis.client) == 0);
}

TEST_CASE("shard channels are subscribed again after an outage, with one gap that explains whatever is missing") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  std::deque<support::follower> all;
  for (int i = 0; i < 3; ++i) {
    auto how = support::roomy;
    how.scope = tn::channel_scope::shard;
    all.emplace_back(sub.subscribe<std::string>(alarms(acme), how));
  }
  auto namesake = sub.subscribe<std::string>(alarms(acme));
  support::numbers_at_full_speed numbers{redis_rig::server().unix_url(), alarms(acme), 32, tn::channel_scope::shard};
  for (std::uint64_t round = 1; round <= 8; ++round) {
    const std::uint64_t before = all.front().messages;
    REQUIRE(eventually([&] { return all.front().messages > before + 100; }));
    CHECK(support::kill_listeners(redis.client) == 1);
    for (support::follower& each : all) REQUIRE(eventually([&] { return each.gaps == round; }));
    CHECK(next_of(namesake) == "gap");
  }
  const std::uint64_t last = numbers.stop();
  for (support::follower& each : all) {
    REQUIRE(eventually([&] { return each.last == last; }));
    CHECK(each.gaps == 8);
    CHECK(each.unexplained == 0);
    CHECK(each.disordered == 0);
    CHECK(support::adds_up(each.counters()));
  }
  CHECK(sub.counters().outages == 8);
  CHECK_FALSE(namesake.try_next());
}

TEST_CASE("a publisher to shard channels that may not publish on one of a batch says so, and publishes the others") {
  const redis_rig redis;
  redis.client.execute("ACL", "SETUSER", "limited", "on", ">secret", "+@all", "resetchannels", "&news:acme:*");
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.username = "limited";
  options.password = "secret";
  const tn::client limited{options};
  const tn::publisher pub{limited, to_shard};
  tn::subscriber sub{redis.client};
  auto feed = sub.subscribe<std::string>(news(acme, "x"), on_shard);
  const std::vector<tn::outgoing> batch{{news(globex, "x"), "refused"}, {news(acme, "x"), "ours"}};
  try {
    (void)pub.publish_all(batch);
    FAIL("published");
  } catch (const tn::server_error& why) {
    CHECK(why.code() == tn::errc::no_permission);
    CHECK(std::string_view{why.what()}.find("SPUBLISH") != std::string_view::npos);
  }
  CHECK(next_of(feed) == "ours");
  redis.client.execute("ACL", "DELUSER", "limited");
}
