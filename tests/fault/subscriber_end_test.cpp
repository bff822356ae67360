// How subscriptions and subscribers end while messages stream and others wait.

#include "support/async_calls.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/feeds.hpp"
#include "support/listener.hpp"
#include "support/random_bytes.hpp"
#include "support/sanitized.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::eventually;
using support::listening;
using support::news;
using support::next_of;
using support::numbers_at_full_speed;
using support::redis_rig;
using support::roomy;
using support::text_feed;

const tn::tenant_id acme{"acme"};
constexpr std::size_t rounds = support::sanitized ? 100 : 1000;

void check_that_nothing_is_left(const redis_rig& redis, const tn::subscriber& sub) {
  CHECK(support::nobody_listens(redis.client));
  CHECK(listening(redis.client, alarms(acme)) == 0);
  CHECK(sub.counters().subscriptions == 0);
  CHECK(sub.counters().channels == 0);
}

/// Whatever it gets cannot be decoded.
struct no_codec {
  [[nodiscard]] std::string encode(int value) const { return std::to_string(value); }
  [[nodiscard]] int decode(std::string_view) const { throw std::invalid_argument{"no"}; }
};

}  // namespace

TEST_CASE("once unsubscribe has returned nothing is delivered, while messages stream and another thread waits") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  auto stays = sub.subscribe<std::string>(alarms(acme), {.capacity = 10});
  numbers_at_full_speed numbers{redis_rig::server().unix_url(), alarms(acme)};
  std::size_t late = 0;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < rounds; ++i) {
    auto feed = sub.subscribe<std::string>(alarms(acme), {.capacity = 100, .timeout = 20s});
    std::atomic<bool> ended = false;
    std::atomic<std::size_t> seen = 0;
    auto reads = support::on_thread([&] {
      std::size_t after = 0;
      for (;;) {
        const bool was_ended = ended;
        if (!feed.next()) return after;
        ++seen;
        if (was_ended) ++after;
      }
    });
    if (i % 2 == 0 && !eventually([&] { return seen > i % 10; })) ++wrong;
    feed.unsubscribe();
    ended = true;
    if (feed.try_next() || feed.next() || feed.next_for(1ms)) ++late;
    const auto all = feed.counters();
    late += reads.get();
    if (!support::adds_up(all) || all.queued != 0 || all.queued_bytes != 0) ++wrong;
    if (feed.counters().received != all.received || feed.counters().delivered != all.delivered) ++wrong;
  }
  CHECK(late == 0);
  CHECK(wrong == 0);
  CHECK(sub.counters().subscriptions == 1);
}

TEST_CASE("a subscriber that is destroyed while threads wait and messages stream closes each subscription once") {
  const support::must_end watch{110s};
  const redis_rig redis;
  numbers_at_full_speed numbers{redis_rig::server().unix_url(), alarms(acme)};
  for (std::size_t i = 0; i < rounds / 10; ++i) {
    auto sub = std::make_unique<tn::subscriber>(redis.client);
    std::vector<text_feed> feeds;
    for (int n = 0; n < 4; ++n) {
      feeds.push_back(sub->subscribe<std::string>(n % 2 == 0 ? alarms(acme) : news(acme, "quiet"), roomy));
    }
    std::atomic<int> ends = 0;
    std::atomic<int> after = 0;
    std::vector<std::thread> threads;
    for (text_feed& each : feeds) {
      threads.emplace_back([&] {
        bool ended = false;
        while (const auto event = each.next()) {
          if (ended) ++after;
          if (const auto* end = std::get_if<tn::closed>(&*event)) {
            ended = true;
            if (end->cause == tn::closed_cause::stopped) ++ends;
          }
        }
      });
    }
    REQUIRE(eventually([&] { return feeds[0].counters().delivered > i % 50; }));
    sub.reset();
    for (std::thread& each : threads) each.join();
    CHECK(ends == 4);
    CHECK(after == 0);
  }
  CHECK(eventually([&] { return support::channels_listening(redis.client) == 0; }));
}

TEST_CASE("a subscription that is moved goes on, and one that is assigned over has ended") {
  const support::must_end watch{110s};
  const redis_rig redis;
  support::random_bytes random;
  tn::subscriber sub{redis.client};
  std::vector<text_feed> feeds;
  for (int i = 0; i < 8; ++i) feeds.push_back(sub.subscribe<std::string>(alarms(acme), roomy));
  std::size_t wrong = 0;
  std::vector<std::uint64_t> last(feeds.size());
  {
    numbers_at_full_speed numbers{redis_rig::server().unix_url(), alarms(acme)};
    for (int i = 0; i < 500; ++i) {
      const std::size_t a = random.below(feeds.size());
      const std::size_t b = random.below(feeds.size());
      std::swap(feeds[a], feeds[b]);
      std::swap(last[a], last[b]);
      text_feed elsewhere{std::move(feeds[a])};
      const auto event = elsewhere.next_for(20s);
      const std::uint64_t number = std::stoull(support::words(event));
      if (last[a] != 0 && number != last[a] + 1) ++wrong;
      last[a] = number;
      feeds[a] = std::move(elsewhere);
    }
  }
  CHECK(wrong == 0);
  CHECK(sub.counters().subscriptions == 8);
  feeds[0] = sub.subscribe<std::string>(news(acme, "x"));
  CHECK(sub.counters().subscriptions == 8);
  feeds[0] = std::move(feeds[1]);
  CHECK(sub.counters().subscriptions == 7);
  CHECK(eventually([&] { return listening(redis.client, news(acme, "x")) == 0; }));
  feeds.clear();
  check_that_nothing_is_left(redis, sub);
}

TEST_CASE("a subscription outlives its subscriber and the client: what was queued, closed, and then nothing") {
  support::need_redis();
  const redis_rig empty;
  for (const bool unsubscribes : {false, true}) {
    auto client = std::make_unique<tn::client>(redis_rig::server().url());
    auto sub = std::make_unique<tn::subscriber>(*client);
    std::optional<text_feed> feed = sub->subscribe<std::string>(alarms(acme));
    auto pattern = sub->subscribe<std::string>(news.all(acme));
    (void)tn::publisher{*client}.publish(alarms(acme), "queued");
    REQUIRE(eventually([&] { return feed->counters().queued == 1; }));
    sub.reset();
    client.reset();
    if (unsubscribes) {
      feed->unsubscribe();
      CHECK_FALSE(feed->next());
    } else {
      CHECK(next_of(*feed) == "queued");
      CHECK(next_of(*feed) == "closed: stopped");
      CHECK_FALSE(feed->next());
    }
    CHECK(support::adds_up(feed->counters()));
    CHECK(next_of(pattern) == "closed: stopped");
    const auto nothing = tn::sync_wait(pattern.async_next());
    CHECK_FALSE(nothing);
    feed.reset();
  }
}

TEST_CASE("what cannot be decoded is left out also when its subscriber and the client are gone") {
  const redis_rig redis;
  support::listener heard;
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.observer = heard.ear();
  auto client = std::make_unique<tn::client>(options);
  auto sub = std::make_unique<tn::subscriber>(*client);
  auto feed = sub->subscribe<int, no_codec>(alarms(acme));
  for (int i = 0; i < 3; ++i) (void)tn::publisher{*client}.publish(alarms(acme), std::to_string(i));
  REQUIRE(eventually([&] { return feed.counters().queued == 3; }));
  sub.reset();
  client.reset();
  const auto event = feed.next();
  REQUIRE(event);
  CHECK(std::holds_alternative<tn::closed>(*event));
  CHECK(feed.counters().undecodable == 3);
  CHECK(heard.all(tn::events::decode_error).empty());  // the observer is not called any more
}

TEST_CASE(
    "a subscriber that is destroyed while a coroutine subscribes closes its subscriptions at once, and ends the call") {
  const support::must_end watch{45s};
  const redis_rig direct;
  support::fault_proxy proxy{redis_rig::server().port()};
  const tn::client redis{proxy.url()};
  auto sub = std::make_unique<tn::subscriber>(redis);
  auto feed = sub->subscribe<std::string>(alarms(acme));
  proxy.apply(support::flow::to_client, {.carries = support::faults::transport::holds});
  const auto said = proxy.taken(support::flow::to_server);
  const auto listen = [](tn::subscriber& to) -> tn::task<std::string> {
    tn::channel c = news(acme, "x");
    auto subscribing = to.async_subscribe<std::string>(c, {.timeout = 1h});
    text_feed never = co_await std::move(subscribing);
    co_return "subscribed";
  };
  auto call = support::started(listen(*sub));
  REQUIRE(eventually([&] { return proxy.taken(support::flow::to_server) > said; }));
  sub.reset();
  CHECK(next_of(feed) == "closed: stopped");
  const auto how = support::failure_of(call);
  CHECK(how.code == tn::errc::closed);
  CHECK(eventually([&] { return support::channels_listening(direct.client) == 0; }));
}

TEST_CASE("the observer hears of each subscription that begins, and of each that ends, whoever ends it") {
  const redis_rig direct;
  support::listener heard;
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.observer = heard.ear();
  const tn::client redis{options};
  auto sub = std::make_unique<tn::subscriber>(redis);
  auto first = sub->subscribe<std::string>(alarms(acme));
  auto second = sub->subscribe<std::string>(alarms(acme), {.capacity = 1, .overflow = tn::overflow::disconnect});
  { auto third = sub->subscribe<std::string>(news.all(acme)); }
  const auto begun = heard.all(tn::events::subscribed);
  REQUIRE(begun.size() == 3);
  CHECK(begun[2].text.at("channel") == "news:acme:*");
  const auto ended = [&] { return heard.all(tn::events::unsubscribed).size(); };
  CHECK(ended() == 1);
  const tn::publisher pub{redis};
  for (int i = 0; i < 2; ++i) pub.publish(alarms(acme), "x");
  REQUIRE(eventually([&] { return second.counters().dropped == 1; }));
  CHECK(eventually([&] { return ended() == 2; }));
  sub.reset();
  REQUIRE(ended() == 3);
  const auto last = heard.all(tn::events::unsubscribed).back();
  CHECK(last.text.at("channel") == "alarms:acme");
  CHECK(last.text.at("tenant") == "acme");
}

TEST_CASE("a client that is closed ends subscriptions that coroutines wait for, then or later, at once; others go on") {
  const support::must_end watch{45s};
  const redis_rig direct;
  tn::client redis{redis_rig::server().url()};
  tn::subscriber sub{redis};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  auto early = sub.subscribe<std::string>(alarms(acme));
  auto late = sub.subscribe<std::string>(alarms(acme));
  auto before = support::started(early.async_next());
  const auto begin = std::chrono::steady_clock::now();
  redis.close(40s);
  CHECK(std::chrono::steady_clock::now() - begin < 20s);  // nothing has to be drained
  auto after = support::started(late.async_next());
  CHECK(std::holds_alternative<tn::closed>(*before.take()));
  CHECK(std::holds_alternative<tn::closed>(*after.take()));
  const tn::publisher pub{direct.client};
  CHECK(pub.publish(alarms(acme), "open") == 1);
  CHECK(next_of(feed) == "open");
  CHECK_FALSE(early.next());
}

TEST_CASE("20000 coroutines that wait for subscriptions do not keep calls from being made, and are all woken") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  std::vector<text_feed> feeds;
  std::vector<support::under_way<std::optional<tn::feed_event<std::string>>>> calls;
  for (int i = 0; i < 20'000; ++i) {
    feeds.push_back(sub.subscribe<std::string>(alarms(acme)));
    calls.push_back(support::started(feeds.back().async_next()));
  }
  CHECK(tn::sync_wait(redis.client.async_execute("PING")).str() == "PONG");
  const tn::publisher pub{redis.client};
  CHECK(tn::sync_wait(pub.async_publish(alarms(acme), std::string_view{"all"})) == 1);
  std::size_t right = 0;
  for (auto& each : calls) {
    if (support::words(each.take()) == "all") ++right;
  }
  CHECK(right == feeds.size());
}
