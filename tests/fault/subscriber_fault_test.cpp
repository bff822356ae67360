// Subscribers whose connection or server fails.

#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/feeds.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::eventually;
using support::fault_proxy;
using support::faults;
using support::flow;
using support::follower;
using support::listening;
using support::news;
using support::next_of;
using support::numbers_at_full_speed;
using support::reach;
using support::roomy;
using support::text_feed;

constexpr faults held{.carries = faults::transport::holds};
constexpr faults gone{.carries = faults::transport::swallows};
const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};

/// A server, a proxy before it for the subscriber, and a client past it.
struct rig {
  explicit rig(std::vector<std::string> arguments = {})
      : server{started(std::move(arguments))}, proxy{server.port()}, redis{proxy.url()}, direct{server.unix_url()} {}
  static tn::testing::redis_server started(std::vector<std::string> arguments) {
    support::need_redis();
    return tn::testing::redis_server{{.arguments = std::move(arguments)}};
  }
  [[nodiscard]] bool heard(const tn::channel& to) const {
    return eventually([&] { return listening(direct, to) == 1; });
  }

  tn::testing::redis_server server;
  fault_proxy proxy;
  tn::client redis;
  tn::client direct;
};

/// Followers of one channel, which is published on at full speed while something is done to the connection.
void check_outages(rig& with, tn::subscriber& sub, int rounds, const auto& interrupt) {
  std::deque<follower> all;
  for (int i = 0; i < 3; ++i) all.emplace_back(sub.subscribe<std::string>(alarms(acme), roomy));
  follower silent{sub.subscribe<std::string>(alarms(globex), roomy)};
  numbers_at_full_speed numbers{with.server.unix_url(), alarms(acme)};
  for (int round = 1; round <= rounds; ++round) {
    const auto told = static_cast<std::uint64_t>(round);
    REQUIRE(eventually([&] { return std::ranges::all_of(all, [&](auto& each) { return each.gaps == told - 1; }); }));
    const std::uint64_t before = all.front().messages;
    REQUIRE(eventually([&] { return all.front().messages > before + 100; }));
    interrupt();
    REQUIRE(eventually([&] { return sub.counters().outages == told; }));
    REQUIRE(eventually([&] { return std::ranges::all_of(all, [&](auto& each) { return each.gaps == told; }); }));
    REQUIRE(eventually([&] { return silent.gaps == told; }));
  }
  const std::uint64_t last = numbers.stop();
  for (follower& each : all) {
    REQUIRE(eventually([&] { return each.last == last; }));
    CHECK(each.gaps == static_cast<std::uint64_t>(rounds));
    CHECK(each.disordered == 0);
    CHECK(each.unexplained == 0);
    CHECK(each.overlapping == 0);
    CHECK(each.lagging == 0);
    CHECK(each.messages == each.counters().received);
    CHECK(support::adds_up(each.counters()));
    CHECK(each.missing == all.front().missing);
  }
  CHECK(silent.messages == 0);
  CHECK(sub.counters().outages == static_cast<std::uint64_t>(rounds));
}

}  // namespace

TEST_CASE("connections killed under full-speed publishing: numbers ascend, and where some are missing a gap says so") {
  const support::must_end watch{110s};
  rig with;
  tn::subscriber sub{with.redis};
  check_outages(with, sub, 12, [&] { CHECK(support::kill_listeners(with.direct) == 1); });
}

TEST_CASE("connections reset under full-speed publishing: numbers ascend, and where some are missing a gap says so") {
  const support::must_end watch{110s};
  rig with;
  tn::subscriber sub{with.redis};
  check_outages(with, sub, 8, [&] { with.proxy.reset(); });
}

TEST_CASE("a server that is restarted under full-speed publishing: one gap for each time") {
  const support::must_end watch{110s};
  rig with;
  tn::subscriber sub{with.redis};
  check_outages(with, sub, 3, [&] {
    with.server.kill();
    with.server.start();
  });
}

TEST_CASE("a server that stops is noticed by its silence, under full-speed publishing too") {
  const support::must_end watch{110s};
  rig with;
  tn::subscriber sub{with.redis, {.heartbeat = 50ms, .heartbeat_timeout = 200ms}};
  check_outages(with, sub, 3, [&] {
    const std::uint64_t before = sub.counters().outages;
    with.server.pause();
    CHECK(eventually([&] { return sub.counters().outages > before; }));
    with.server.resume();
  });
}

TEST_CASE(
    "a connection whose other end is gone without a word is noticed in each direction, and one that is idle stays") {
  rig with;
  tn::subscriber sub{with.redis, {.heartbeat = 50ms, .heartbeat_timeout = 1s}};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  std::uint64_t outages = 0;
  const tn::publisher pub{with.direct};
  for (const int lost : {0, 1, 2}) {
    CAPTURE(lost);
    // several times the heartbeat
    const auto said = with.proxy.taken(flow::to_server);
    REQUIRE(eventually([&] { return with.proxy.taken(flow::to_server) >= said + 3 * 14; }));
    CHECK(sub.counters().outages == outages);
    if (lost != 1) with.proxy.apply(flow::to_client, gone, reach::open);
    if (lost != 0) with.proxy.apply(flow::to_server, gone, reach::open);
    if (lost != 1) pub.publish(alarms(acme), "lost");
    ++outages;
    REQUIRE(eventually([&] { return sub.counters().outages == outages; }));
    CHECK(next_of(feed) == "gap");
    // the server may still have the old connection
    REQUIRE(eventually([&] { return listening(with.direct, alarms(acme)) >= 1; }));
    pub.publish(alarms(acme), "new");
    CHECK(next_of(feed) == "new");
  }
  CHECK(feed.counters().gaps == 3);
  CHECK(feed.counters().received == 3);
}

TEST_CASE("a connection that ends anywhere inside a message delivers it whole or not at all") {
  const support::must_end watch{110s};
  rig with;
  tn::subscriber sub{with.redis};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  const tn::publisher pub{with.direct};
  const std::size_t frame = std::string{"*3\r\n$7\r\nmessage\r\n$11\r\nalarms:acme\r\n$5\r\nab\r\nc\r\n"}.size();
  for (const std::size_t at : {std::size_t{1}, std::size_t{3}, std::size_t{7}, std::size_t{18}, std::size_t{30},
                               std::size_t{37}, std::size_t{40}, frame - 3, frame - 2, frame - 1, frame, frame + 5}) {
    CAPTURE(at, frame);
    with.proxy.apply(flow::to_client, {.cut_after = at}, reach::open);
    pub.publish(alarms(acme), "ab\r\nc");
    if (at > frame) pub.publish(alarms(acme), "ab\r\nc");
    std::string seen = next_of(feed);
    if (at >= frame) {
      CHECK(seen == "ab\r\nc");
      seen = next_of(feed);
    }
    CHECK(seen == "gap");
    pub.publish(alarms(acme), "whole");
    CHECK(next_of(feed) == "whole");
  }
  CHECK(support::adds_up(feed.counters()));
}

TEST_CASE("messages and confirmations that come byte by byte are put together") {
  rig with;
  with.proxy.apply(flow::to_client, {.segment = 1});
  tn::subscriber sub{with.redis};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  auto pattern = sub.subscribe<std::string>(news.all(acme));
  const tn::publisher pub{with.direct};
  for (int i = 0; i < 20; ++i) {
    pub.publish(alarms(acme), std::to_string(i));
    auto more = sub.subscribe<std::string>(news(acme, std::to_string(i)));
    pub.publish(news(acme, std::to_string(i)), std::to_string(i));
    CHECK(next_of(more) == std::to_string(i));
    CHECK(next_of(feed) == std::to_string(i));
    CHECK(next_of(pattern) == std::to_string(i));
  }
  CHECK(sub.counters().outages == 0);
}

TEST_CASE("a connection that is lost twice while 1000 channels are subscribed again ends with all of them") {
  const support::must_end watch{110s};
  rig with;
  tn::subscriber sub{with.redis};
  std::vector<text_feed> feeds;
  const auto topic = [](std::size_t i) { return news(acme, "topic-" + std::to_string(1000 + i)); };
  for (std::size_t i = 0; i < 1000; ++i) feeds.push_back(sub.subscribe<std::string>(topic(i), roomy));
  // *3 $9 subscribe $20 news:acme:topic-1000 :1000 are 50 bytes; so about 300 of them
  constexpr std::size_t cut = 15'000;
  constexpr std::size_t confirmed = cut / 48;
  with.proxy.apply(flow::to_client, {.cut_after = cut}, reach::future);
  with.proxy.reset();
  REQUIRE(eventually([&] { return sub.counters().outages >= 3; }));
  with.proxy.heal();
  REQUIRE(eventually([&] { return support::channels_listening(with.direct) == 1000; }));
  const tn::publisher pub{with.direct};
  std::uint64_t gaps = 0;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    if (listening(with.direct, topic(i)) != 1) ++wrong;
    pub.publish(topic(i), "end");
    tn::gap before{};
    std::uint64_t here = 0;
    for (;;) {
      const auto event = feeds[i].next_for(20s);
      REQUIRE(event);
      if (const auto* missed = std::get_if<tn::gap>(&*event)) {
        if (here > 0 && missed->from < before.to) ++wrong;
        before = *missed;
        ++here;
        continue;
      }
      if (support::words(event) != "end") ++wrong;
      break;
    }
    if (here == 0 || here > sub.counters().outages) ++wrong;
    gaps += here;
  }
  CHECK(wrong == 0);
  // one for the first outage, and one more for each cut after the channel had been confirmed
  CHECK(gaps >= 1000);
  CHECK(gaps <= 1000 + (sub.counters().outages - 1) * confirmed);
}

TEST_CASE("a subscriber that the server ends because its output buffer is full is told that it missed something") {
  rig with{{"--client-output-buffer-limit", "pubsub 65536 0 0"}};
  tn::subscriber sub{with.redis};
  auto feed = sub.subscribe<std::string>(alarms(acme), roomy);
  const tn::publisher pub{with.direct, {.max_payload = 1U << 24U}};
  pub.publish(alarms(acme), "before");
  CHECK(next_of(feed) == "before");
  pub.publish(alarms(acme), std::string(200'000, 'x'));  // alone too large
  CHECK(next_of(feed) == "gap");
  pub.publish(alarms(acme), "between");
  CHECK(next_of(feed) == "between");
  with.proxy.apply(flow::to_client, held, reach::open);  // does not read any more
  const std::string some(50'000, 'y');
  REQUIRE(eventually([&] {
    for (int i = 0; i < 20; ++i) pub.publish(alarms(acme), some);
    return listening(with.direct, alarms(acme)) == 0;
  }));
  with.proxy.heal();
  std::string seen = next_of(feed);
  while (seen == some) seen = next_of(feed);
  CHECK(seen == "gap");
  REQUIRE(with.heard(alarms(acme)));
  pub.publish(alarms(acme), "after");
  CHECK(next_of(feed) == "after");
}

TEST_CASE("after 40 MB that a foreign client publishes all listeners go on, and know what they did not get") {
  const support::must_end watch{110s};
  for (const char* const limit : {"pubsub 33554432 8388608 60", "pubsub 0 0 0"}) {
    CAPTURE(limit);
    rig with{{"--client-output-buffer-limit", limit}};
    tn::subscriber sub{with.redis};
    auto feed = sub.subscribe<std::string>(alarms(acme));  // its queue holds 8 MB
    auto large = sub.subscribe<std::string>(alarms(acme), roomy);
    auto other = sub.subscribe<std::string>(alarms(globex));
    {
      const std::string huge(40U << 20U, 'h');
      auto options = tn::client_options::from_url(with.server.unix_url());
      options.timeout = 60s;
      const tn::client foreign{options};
      foreign.execute("PUBLISH", alarms(acme), huge);
    }
    // Either it came, and the queue was too small for it, or the connection ended.
    for (text_feed* each : {&feed, &large}) {
      const auto event = each->next_for(60s);
      REQUIRE(event);
      if (const auto* came = std::get_if<tn::message<std::string>>(&*event)) {
        CHECK(came->value.size() == 40U << 20U);
      } else {
        CHECK((std::holds_alternative<tn::gap>(*event) || std::holds_alternative<tn::lagged>(*event)));
      }
    }
    REQUIRE(with.heard(alarms(acme)));
    REQUIRE(with.heard(alarms(globex)));
    const tn::publisher pub{with.direct};
    pub.publish(alarms(acme), "after");
    pub.publish(alarms(globex), "after");
    CHECK(next_of(feed) == "after");
    CHECK(next_of(large) == "after");
    std::string seen = next_of(other);
    if (seen == "gap") seen = next_of(other);
    CHECK(seen == "after");
  }
}

TEST_CASE("a connection that dies while subscribe waits, twice, delays it, and no gap is told to who was not there") {
  rig with;
  tn::subscriber sub{with.redis};
  auto before = sub.subscribe<std::string>(alarms(globex));
  with.proxy.apply(flow::to_client, held);
  const auto said = with.proxy.taken(flow::to_server);
  auto waits = support::on_thread([&] { return sub.subscribe<std::string>(alarms(acme), roomy); });
  REQUIRE(eventually([&] { return with.proxy.taken(flow::to_server) > said; }));
  for (int i = 0; i < 2; ++i) {
    const auto connections = with.proxy.connections();
    with.proxy.reset();
    REQUIRE(eventually([&] { return with.proxy.connections() > connections; }));
  }
  CHECK(waits.wait_for(0s) == std::future_status::timeout);
  with.proxy.heal();
  auto feed = waits.get();
  const tn::publisher pub{with.direct};
  CHECK(pub.publish(alarms(acme), "first") == 1);
  CHECK(next_of(feed) == "first");
  CHECK(next_of(before) == "gap");
  CHECK(feed.counters().gaps == 0);
  CHECK(before.counters().gaps == 1);
}

TEST_CASE("a subscribe that waits in vain leaves nothing behind, also where the server confirms it later") {
  rig with;
  tn::subscriber sub{with.redis};
  auto other = sub.subscribe<std::string>(alarms(globex));
  with.proxy.apply(flow::to_client, held);
  for (int i = 0; i < 3; ++i) {
    CHECK_THROWS_AS((void)sub.subscribe<std::string>(alarms(acme), {.timeout = 50ms}), tn::timeout_error);
    CHECK_THROWS_AS((void)sub.subscribe<std::string>(news.all(acme), {.timeout = 50ms}), tn::timeout_error);
  }
  with.proxy.heal();
  CHECK(eventually([&] { return listening(with.direct, alarms(acme)) == 0; }));
  CHECK(eventually([&] { return support::patterns_listening(with.direct) == 0; }));
  CHECK(sub.counters().subscriptions == 1);
  CHECK(sub.counters().channels == 1);
  auto feed = sub.subscribe<std::string>(alarms(acme));
  const tn::publisher pub{with.direct};
  CHECK(pub.publish(alarms(acme), "now") == 1);
  CHECK(next_of(feed) == "now");
  CHECK_FALSE(other.try_next());
}
