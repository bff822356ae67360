// What a server does to subscriptions unasked: it ends one of them, or the connection because nobody reads it.

#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/feeds.hpp"
#include "support/listener.hpp"
#include "support/obedient_server.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::announced;
using support::bulk;
using support::eventually;
using support::listening;
using support::message_on;
using support::news;
using support::next_of;
using support::obedient_server;
using support::text_feed;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};

std::optional<tn::gap_cause> gap_of(text_feed& from) {
  const auto event = from.next_for(20s);
  const auto* const missed = event ? std::get_if<tn::gap>(&*event) : nullptr;
  return missed != nullptr ? std::optional{missed->cause} : std::nullopt;
}

}  // namespace

TEST_CASE("a channel that the server ends unasked is subscribed again, and only its listeners get a gap, one each") {
  const auto scope = GENERATE(tn::channel_scope::global, tn::channel_scope::shard);
  const bool shard = scope == tn::channel_scope::shard;
  const tn::subscription_options here{.scope = scope};
  const tn::subscription_options elsewhere{.scope = shard ? tn::channel_scope::global : tn::channel_scope::shard};
  const support::must_end watch;
  obedient_server server;
  support::listener heard;
  auto options = tn::client_options::from_url(server.url());
  options.observer = heard.ear();
  const tn::client redis{options};
  tn::subscriber sub{redis};
  auto first = sub.subscribe<std::string>(alarms(acme), here);
  auto second = sub.subscribe<std::string>(alarms(acme), here);
  auto other = sub.subscribe<std::string>(alarms(globex), here);
  auto namesake = sub.subscribe<std::string>(alarms(acme), elsewhere);
  const std::string asks = shard ? "SSUBSCRIBE" : "SUBSCRIBE";
  const std::string message = shard ? "smessage" : "message";
  server.hold_back();
  server.say(announced(shard ? "sunsubscribe" : "unsubscribe", "alarms:acme"));
  REQUIRE(eventually([&] { return server.asked(asks + " alarms:acme") == 2; }));
  auto joins = support::on_thread([&] { return sub.subscribe<std::string>(alarms(acme), here); });
  REQUIRE(eventually([&] { return sub.counters().subscriptions == 5; }));
  server.go_on();
  auto late = joins.get();
  for (const char* const name : {"alarms:acme", "alarms:globex"}) server.say(message_on(name, "after", message));
  server.say(message_on("alarms:acme", "of the other scope", shard ? "message" : "smessage"));
  for (text_feed* const each : {&first, &second}) {
    CHECK(gap_of(*each) == tn::gap_cause::server_unsubscribed);
    CHECK(next_of(*each) == "after");
    CHECK(each->counters().gaps == 1);
  }
  CHECK(next_of(late) == "after");
  CHECK(next_of(other) == "after");
  CHECK(next_of(namesake) == "of the other scope");
  for (text_feed* const each : {&first, &second, &late, &other, &namesake}) CHECK_FALSE(each->try_next());
  CHECK(server.asked(asks + " alarms:acme") == 2);
  CHECK(server.asked(asks + " alarms:globex") == 1);
  CHECK(sub.counters().outages == 0);
  CHECK(server.connections() == 1);
  const auto gaps = heard.all(tn::events::gap);
  REQUIRE(gaps.size() == 1);
  CHECK(gaps[0].text.at("cause") == "server_unsubscribed");
  CHECK(gaps[0].text.at("channel") == "alarms:acme");
  CHECK(gaps[0].number.at("listeners") == 2);
}

TEST_CASE("a pattern that the server ends unasked is subscribed again, with a gap") {
  obedient_server server;
  const tn::client redis{server.url()};
  tn::subscriber sub{redis};
  auto pattern = sub.subscribe<std::string>(news.all(acme));
  auto exact = sub.subscribe<std::string>(news(acme, "x"));
  server.say(announced("punsubscribe", "news:acme:*"));
  CHECK(gap_of(pattern) == tn::gap_cause::server_unsubscribed);
  server.say("*4\r\n" + bulk("pmessage") + bulk("news:acme:*") + bulk("news:acme:x") + bulk("after"));
  CHECK(next_of(pattern) == "after");
  CHECK(pattern.counters().gaps == 1);
  CHECK(exact.counters().gaps == 0);
  CHECK(sub.counters().outages == 0);
}

TEST_CASE("messages of shard channels that nobody here listens to reach nobody") {
  obedient_server server;
  const tn::client redis{server.url()};
  tn::subscriber sub{redis};
  auto feed = sub.subscribe<std::string>(alarms(acme), {.scope = tn::channel_scope::shard});
  auto global = sub.subscribe<std::string>(news(acme, "x"));
  for (const char* const name : {"alarms:globex", "alarms:acm", "alarms:acme:x", "news:acme:x"}) {
    server.say(message_on(name, "foreign", "smessage"));
  }
  server.say(message_on("alarms:acme", "foreign"));
  server.say(message_on("alarms:acme", "ours", "smessage") + message_on("news:acme:x", "ours"));
  CHECK(next_of(feed) == "ours");
  CHECK(next_of(global) == "ours");
  CHECK_FALSE(feed.try_next());
  CHECK(sub.counters().deliveries == 2);
}

TEST_CASE("an end that comes unasked while the channel is being left is not told to who subscribes to it next") {
  const auto scope = GENERATE(tn::channel_scope::global, tn::channel_scope::shard);
  const std::string s = scope == tn::channel_scope::shard ? "S" : "";
  const std::string leaving = scope == tn::channel_scope::shard ? "sunsubscribe" : "unsubscribe";
  const std::string message = scope == tn::channel_scope::shard ? "smessage" : "message";
  const support::must_end watch;
  obedient_server server;
  const tn::client redis{server.url()};
  tn::subscriber sub{redis};
  auto other = sub.subscribe<std::string>(alarms(globex), {.scope = scope});
  for (std::size_t i = 1; i <= 3; ++i) {
    auto leaves = sub.subscribe<std::string>(alarms(acme), {.scope = scope});
    server.say_before_leaving(announced(leaving, "alarms:acme"));
    server.hold_back();
    leaves.unsubscribe();
    REQUIRE(eventually([&] { return server.asked(s + "UNSUBSCRIBE alarms:acme") == 2 * i - 1; }));
    auto joins = support::on_thread([&] { return sub.subscribe<std::string>(alarms(acme), {.scope = scope}); });
    REQUIRE(eventually([&] { return sub.counters().subscriptions == 2; }));
    server.go_on();  // the end, the answer, and then the confirmation
    server.say_before_leaving({});
    auto next = joins.get();
    server.say(message_on("alarms:acme", "after", message));
    CHECK(next_of(next) == "after");
    CHECK(next.counters().gaps == 0);
    CHECK_FALSE(leaves.next());
    next.unsubscribe();
    REQUIRE(eventually([&] { return server.asked(s + "UNSUBSCRIBE alarms:acme") == 2 * i; }));
    CHECK(server.asked(s + "SUBSCRIBE alarms:acme") == 2 * i);
  }
  CHECK(other.counters().gaps == 0);
  CHECK(sub.counters().outages == 0);
  CHECK(server.connections() == 1);
}

TEST_CASE("a subscriber that the server ends over unread output without further messages gets one gap, and goes on") {
  const support::must_end watch{110s};
  support::need_redis();
  const tn::testing::redis_server server{{.arguments = {"--client-output-buffer-limit", "pubsub 0 65536 3"}}};
  support::fault_proxy proxy{server.port()};
  const tn::client redis{proxy.url()};
  const tn::client direct{server.unix_url()};
  tn::subscriber sub{redis, {.heartbeat = 1h}};
  auto first = sub.subscribe<std::string>(alarms(acme), support::roomy);
  auto second = sub.subscribe<std::string>(alarms(acme), support::roomy);
  auto other = sub.subscribe<std::string>(alarms(globex), support::roomy);
  const tn::publisher pub{direct, {.timeout = 20s}};
  const std::vector<tn::outgoing> some(200, {.to = alarms(acme), .payload = std::string(50'000, 'y')});
  const auto unread = [&] {
    const std::string listed = direct.execute("CLIENT", "LIST", "TYPE", "pubsub").str();
    const auto at = listed.find(" omem=");
    return at == std::string::npos ? std::size_t{0} : std::stoull(listed.substr(at + 6));
  };
  proxy.apply(support::flow::to_client, {.carries = support::faults::transport::holds}, support::reach::open);
  std::size_t published = 0;
  while (unread() <= 65'536) {
    REQUIRE(listening(direct, alarms(acme)) == 1);
    pub.publish_all(some);
    published += some.size();
  }
  REQUIRE(eventually([&] { return listening(direct, alarms(acme)) == 0; }));  // by the server, and by time alone
  CHECK(sub.counters().outages == 0);                                         // which nobody could see yet
  proxy.heal();
  for (text_feed* const each : {&first, &second}) {
    std::size_t came = 0;
    std::optional<tn::feed_event<std::string>> event = each->next_for(20s);
    for (; event && std::holds_alternative<tn::message<std::string>>(*event); event = each->next_for(20s)) ++came;
    CHECK(came < published);
    REQUIRE(event);
    REQUIRE(std::holds_alternative<tn::gap>(*event));
    CHECK(std::get<tn::gap>(*event).cause == tn::gap_cause::connection_lost);
  }
  CHECK(next_of(other) == "gap");
  REQUIRE(eventually([&] { return listening(direct, alarms(acme)) == 1 && listening(direct, alarms(globex)) == 1; }));
  pub.publish(alarms(acme), "after");
  pub.publish(alarms(globex), "after");
  for (text_feed* const each : {&first, &second, &other}) {
    CHECK(next_of(*each) == "after");
    CHECK(each->counters().gaps == 1);
  }
  CHECK(sub.counters().outages == 1);
}
