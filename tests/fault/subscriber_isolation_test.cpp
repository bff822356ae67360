// Tenants that share a subscriber, and servers that refuse some of them.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/random_bytes.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::eventually;
using support::news;
using support::next_of;
using support::redis_rig;
using support::roomy;
using support::text_feed;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};

/// A server with a user that may listen to some channels only.
struct restricted {
  restricted() : admin{server.url()} { allow("allchannels"); }
  static tn::testing::redis_server started() {
    support::need_redis();
    return tn::testing::redis_server{};
  }
  template <class... Words>
  void allow(const Words&... channels) const {
    admin.execute("ACL", "SETUSER", "limited", "on", ">secret", "+@all", "resetchannels", channels...);
  }
  [[nodiscard]] tn::client_options limited() const {
    auto options = tn::client_options::from_url(server.url());
    options.username = "limited";
    options.password = "secret";
    return options;
  }

  tn::testing::redis_server server = started();
  tn::client admin;
};

tn::errc refusal(auto&& subscribe) {
  try {
    auto feed = subscribe();
  } catch (const tn::server_error& why) {
    return why.code();
  }
  return tn::errc{};
}

std::string message_of(std::string_view kind, const std::vector<std::string_view>& parts) {
  std::string frame = "*" + std::to_string(parts.size() + 1) + "\r\n$" + std::to_string(kind.size()) + "\r\n";
  frame += std::string{kind} + "\r\n";
  for (const std::string_view each : parts)
    frame += "$" + std::to_string(each.size()) + "\r\n" + std::string{each} + "\r\n";
  return frame;
}

}  // namespace

TEST_CASE("whatever ids tenants have, a message reaches those of its channel and of its tenant's patterns only") {
  const support::must_end watch{110s};
  const redis_rig redis;
  support::random_bytes random;
  tn::subscriber sub{redis.client, {.connections = 3}};
  struct listens {
    std::string tenant;
    std::string topic;  // empty: all of them
    text_feed feed;
    std::multiset<std::string> expected{};
  };
  std::vector<listens> all;
  std::vector<std::pair<std::string, std::string>> known;
  for (int i = 0; i < 60; ++i) {
    const std::string tenant = random.tenant();
    const std::string topic = random.id();
    known.emplace_back(tenant, topic);
    const tn::tenant_id id{tenant};
    all.push_back({tenant, topic, sub.subscribe<std::string>(news(id, topic), roomy)});
    all.push_back({tenant, "", sub.subscribe<std::string>(news.all(id), roomy)});
  }
  for (const char* const hostile : {"*", "?", "[a-z]*", "acme", "..", "\\*", ":", "a:b", "{acme}", "%"}) {
    known.emplace_back("acme", hostile);
    all.push_back({"acme", hostile, sub.subscribe<std::string>(news(acme, hostile), roomy)});
  }
  const tn::publisher pub{redis.client};
  for (int i = 0; i < 1500; ++i) {
    const std::string tenant = random.below(2) == 0 ? known[random.below(known.size())].first : random.tenant();
    const std::string topic = random.below(2) == 0 ? known[random.below(known.size())].second : random.id();
    const std::string payload = tenant + '\n' + std::to_string(i);
    pub.publish(news(tn::tenant_id{tenant}, topic), payload);
    for (listens& each : all) {
      if (each.tenant == tenant && (each.topic.empty() || each.topic == topic)) each.expected.insert(payload);
    }
  }
  std::size_t wrong = 0;
  for (listens& each : all) {
    std::multiset<std::string> came;
    while (came.size() < each.expected.size()) {
      const std::string payload = next_of(each.feed);
      if (!payload.starts_with(each.tenant + '\n')) ++wrong;
      if (payload == "nothing") break;
      came.insert(payload);
    }
    if (came != each.expected || each.feed.try_next()) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(sub.counters().foreign == 0);
}

TEST_CASE("messages that a server sends for channels that nobody here listens to reach nobody") {
  support::scripted_server server{[](support::peer& client, int) {
    if (!client.greet()) return;
    for (std::string words = client.command(); !words.empty(); words = client.command()) {
      if (words.starts_with("PING")) client.send("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
      const bool pattern = words.starts_with("PSUBSCRIBE ");
      if (!pattern && !words.starts_with("SUBSCRIBE ")) continue;
      const std::string name = words.substr(words.find(' ') + 1);
      client.send(message_of(pattern ? "psubscribe" : "subscribe", {name}).replace(1, 1, "3") + ":1\r\n");
      if (!pattern) continue;
      client.send(message_of("message", {"alarms:globex", "foreign"}));
      client.send(message_of("message", {"alarms:acm", "foreign"}));
      client.send(message_of("message", {"alarms:acme:x", "foreign"}));
      client.send(message_of("pmessage", {"news:acme:*", "news:globex:x", "foreign"}));
      client.send(message_of("pmessage", {"news:acme:*", "news:acme", "foreign"}));
      client.send(message_of("pmessage", {"news:acme:*", "news:acme2:x", "foreign"}));
      client.send(message_of("pmessage", {"*", "news:acme:x", "foreign"}));
      client.send(message_of("pmessage", {"alarms:acme", "alarms:acme", "foreign"}));
      client.send(message_of("message", {"alarms:acme", "ours"}));
      client.send(message_of("pmessage", {"news:acme:*", "news:acme:x", "ours"}));
    }
  }};
  const tn::client redis{server.url()};
  tn::subscriber sub{redis};
  auto exact = sub.subscribe<std::string>(alarms(acme));
  auto pattern = sub.subscribe<std::string>(news.all(acme));
  CHECK(next_of(exact) == "ours");
  CHECK(next_of(pattern) == "ours");
  CHECK_FALSE(exact.try_next());
  CHECK_FALSE(pattern.try_next());
  CHECK(sub.counters().foreign == 3);  // its pattern does not match: a channel that nobody has may be one just left
  CHECK(server.connections() == 1);
}

TEST_CASE("one refused channel among many that are subscribed together fails alone") {
  tn::subscription_options how = roomy;
  how.scope = GENERATE(tn::channel_scope::global, tn::channel_scope::shard);
  const restricted with;
  with.allow("&alarms:*", "&news:acme:*");
  const tn::client redis{with.limited()};
  tn::subscriber sub{redis};
  CHECK(refusal([&] { return sub.subscribe<std::string>(news.all(globex)); }) == tn::errc::no_permission);
  CHECK(refusal([&] { return tn::sync_wait(sub.async_subscribe<std::string>(news(globex, "x"), how)); }) ==
        tn::errc::no_permission);
  std::vector<std::future<bool>> calls;
  for (int i = 0; i < 40; ++i) {
    calls.push_back(support::on_thread([&, i] {
      const auto& who = i % 4 == 0 ? globex : acme;
      const auto code = refusal([&] { return sub.subscribe<std::string>(news(who, std::to_string(i)), how); });
      return code == (i % 4 == 0 ? tn::errc::no_permission : tn::errc{});
    }));
  }
  int right = 0;
  for (auto& each : calls) right += each.get() ? 1 : 0;
  CHECK(right == 40);
  auto literal = sub.subscribe<std::string>(news.all(acme));
  const tn::publisher pub{with.admin};
  pub.publish(news(acme, "x"), "goes on");
  CHECK(next_of(literal) == "goes on");
  CHECK(sub.counters().outages == 0);
  CHECK(sub.counters().subscriptions == 1);
}

TEST_CASE("a revoked tenant among many that are subscribed again is closed; the others get one gap and go on") {
  const support::must_end watch{110s};
  const restricted with;
  const tn::client redis{with.limited()};
  tn::subscriber sub{redis};
  std::vector<text_feed> ours;
  std::vector<text_feed> theirs;
  for (int i = 0; i < 600; ++i) {
    const bool mine = i % 50 != 7;
    (mine ? ours : theirs).push_back(sub.subscribe<std::string>(news(mine ? acme : globex, std::to_string(i)), roomy));
  }
  auto pattern = sub.subscribe<std::string>(news.all(acme));
  auto their_pattern = sub.subscribe<std::string>(news.all(globex));
  with.allow("&news:acme:*");
  CHECK(next_of(their_pattern) == "closed: refused");
  for (text_feed& each : theirs) {
    const auto event = each.next_for(20s);
    REQUIRE(event);
    REQUIRE(std::holds_alternative<tn::closed>(*event));
    const auto& end = std::get<tn::closed>(*event);
    CHECK(end.cause == tn::closed_cause::refused);
    REQUIRE(end.why);
    CHECK(end.why->code() == tn::errc::no_permission);
    CHECK_FALSE(each.next());
  }
  CHECK(next_of(pattern) == "gap");
  std::size_t gaps = 0;
  for (text_feed& each : ours) {
    if (next_of(each) == "gap") ++gaps;
  }
  CHECK(gaps == ours.size());
  REQUIRE(eventually([&] { return support::channels_listening(with.admin) == ours.size(); }));
  CHECK(sub.counters().subscriptions == ours.size() + 1);
  const tn::publisher pub{with.admin};
  pub.publish(news(acme, "0"), "goes on");
  CHECK(next_of(ours[0]) == "goes on");
  CHECK(next_of(pattern) == "goes on");
  with.allow("&news:acme:*", "&news:globex:*");  // may listen again
  auto back = sub.subscribe<std::string>(news(globex, "7"), roomy);
  pub.publish(news(globex, "7"), "again");
  CHECK(next_of(back) == "again");
}

TEST_CASE("a user that is deleted and made again gets a gap, and goes on") {
  const restricted with;
  const tn::client redis{with.limited()};
  tn::subscriber sub{redis};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  with.admin.execute("ACL", "DELUSER", "limited");
  REQUIRE(eventually([&] { return sub.counters().connections == 0 && sub.counters().outages == 1; }));
  try {
    auto refused = sub.subscribe<std::string>(alarms(globex), {.timeout = 300ms});
    FAIL("subscribed");
  } catch (const tn::error& why) {
    CHECK(why.code() != tn::errc{});
  }
  with.allow("allchannels");
  CHECK(next_of(feed) == "gap");
  const tn::publisher pub{with.admin};
  pub.publish(alarms(acme), "goes on");
  CHECK(next_of(feed) == "goes on");
}
