// What a server does to subscriptions unasked: it ends one of them, or the connection because nobody reads it.

#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/feeds.hpp"
#include "support/listener.hpp"
#include "support/redis_probe.hpp"
#include "support/scripted_server.hpp"

#include <tenantry/client.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
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
using support::listening;
using support::news;
using support::next_of;
using support::text_feed;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};

std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string{text} + "\r\n";
}
std::string announced(std::string_view what, std::string_view name) {
  return "*3\r\n" + bulk(what) + bulk(name) + ":1\r\n";
}
std::string message_on(std::string_view name, std::string_view payload) {
  return "*3\r\n" + bulk("message") + bulk(name) + bulk(payload);
}

/// Confirms whatever it is asked for, and says more when it is told to.
class obedient_server {
 public:
  [[nodiscard]] std::string url() const { return server_.url(); }
  [[nodiscard]] int connections() const { return server_.connections(); }

  /// To the one that listens, now.
  void say(std::string_view bytes) {
    const std::lock_guard held{mutex_};
    REQUIRE(listens_ != nullptr);
    listens_->send(bytes);
  }
  /// Confirmations are kept back from now on.
  void hold_back() {
    const std::lock_guard held{mutex_};
    holds_back_ = true;
  }
  /// What was kept back is said.
  void go_on() {
    const std::lock_guard held{mutex_};
    holds_back_ = false;
    listens_->send(kept_);
    kept_.clear();
  }
  /// Whoever leaves a channel gets this before the confirmation.
  void say_before_leaving(std::string bytes) {
    const std::lock_guard held{mutex_};
    before_leaving_ = std::move(bytes);
  }
  /// How often it was asked exactly this.
  [[nodiscard]] std::size_t asked(std::string_view words) const {
    const std::lock_guard held{mutex_};
    return static_cast<std::size_t>(std::ranges::count(asked_, words));
  }

 private:
  void play(support::peer& client) {
    if (!client.greet()) return;
    for (std::string words = client.command(); !words.empty(); words = client.command()) {
      const std::lock_guard held{mutex_};
      listens_ = &client;
      asked_.push_back(words);
      std::string what = words.substr(0, words.find(' '));
      std::ranges::transform(what, what.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      if (what == "ping") {
        client.send("*2\r\n" + bulk("pong") + bulk(""));
        continue;
      }
      std::string answer;
      if (what.find("unsubscribe") != std::string::npos) answer = before_leaving_;
      for (std::size_t at = words.find(' '); at != std::string::npos;) {
        const std::size_t end = words.find(' ', at + 1);
        answer += announced(what, words.substr(at + 1, end == std::string::npos ? end : end - at - 1));
        at = end;
      }
      if (holds_back_) {
        kept_ += answer;
      } else {
        client.send(answer);
      }
    }
    const std::lock_guard held{mutex_};
    listens_ = nullptr;
  }

  mutable std::mutex mutex_;
  std::vector<std::string> asked_;
  std::string kept_;
  std::string before_leaving_;
  bool holds_back_ = false;
  support::peer* listens_ = nullptr;
  support::scripted_server server_{[this](support::peer& client, int) { play(client); }};  // last: it uses the others
};

std::optional<tn::gap_cause> gap_of(text_feed& from) {
  const auto event = from.next_for(20s);
  const auto* const missed = event ? std::get_if<tn::gap>(&*event) : nullptr;
  return missed != nullptr ? std::optional{missed->cause} : std::nullopt;
}

}  // namespace

TEST_CASE("a channel that the server ends unasked is subscribed again, and only its listeners get a gap, one each") {
  const support::must_end watch;
  obedient_server server;
  support::listener heard;
  auto options = tn::client_options::from_url(server.url());
  options.observer = heard.ear();
  const tn::client redis{options};
  tn::subscriber sub{redis};
  auto first = sub.subscribe<std::string>(alarms(acme));
  auto second = sub.subscribe<std::string>(alarms(acme));
  auto other = sub.subscribe<std::string>(alarms(globex));
  auto pattern = sub.subscribe<std::string>(news.all(acme));
  server.hold_back();
  server.say(announced("unsubscribe", "alarms:acme"));
  REQUIRE(eventually([&] { return server.asked("SUBSCRIBE alarms:acme") == 2; }));
  auto joins = support::on_thread([&] { return sub.subscribe<std::string>(alarms(acme)); });
  REQUIRE(eventually([&] { return sub.counters().subscriptions == 5; }));
  server.go_on();
  auto late = joins.get();
  server.say(message_on("alarms:acme", "after") + message_on("alarms:globex", "after"));
  for (text_feed* const each : {&first, &second}) {
    CHECK(gap_of(*each) == tn::gap_cause::server_unsubscribed);
    CHECK(next_of(*each) == "after");
    CHECK(each->counters().gaps == 1);
  }
  CHECK(next_of(late) == "after");
  CHECK(next_of(other) == "after");
  server.say(announced("punsubscribe", "news:acme:*"));
  CHECK(gap_of(pattern) == tn::gap_cause::server_unsubscribed);
  server.say("*4\r\n" + bulk("pmessage") + bulk("news:acme:*") + bulk("news:acme:x") + bulk("after"));
  CHECK(next_of(pattern) == "after");
  for (text_feed* const each : {&first, &second, &late, &other}) CHECK_FALSE(each->try_next());
  CHECK(server.asked("SUBSCRIBE alarms:acme") == 2);
  CHECK(server.asked("SUBSCRIBE alarms:globex") == 1);
  CHECK(sub.counters().outages == 0);
  CHECK(server.connections() == 1);
  const auto gaps = heard.all(tn::events::gap);
  REQUIRE(gaps.size() == 2);
  CHECK(gaps[0].text.at("cause") == "server_unsubscribed");
  CHECK(gaps[0].text.at("channel") == "alarms:acme");
  CHECK(gaps[0].number.at("listeners") == 2);
}

TEST_CASE("an end that comes unasked while the channel is being left is not told to who subscribes to it next") {
  const support::must_end watch;
  obedient_server server;
  const tn::client redis{server.url()};
  tn::subscriber sub{redis};
  auto other = sub.subscribe<std::string>(alarms(globex));
  for (std::size_t i = 1; i <= 3; ++i) {
    auto leaves = sub.subscribe<std::string>(alarms(acme));
    server.say_before_leaving(announced("unsubscribe", "alarms:acme"));
    server.hold_back();
    leaves.unsubscribe();
    REQUIRE(eventually([&] { return server.asked("UNSUBSCRIBE alarms:acme") == 2 * i - 1; }));
    auto joins = support::on_thread([&] { return sub.subscribe<std::string>(alarms(acme)); });
    REQUIRE(eventually([&] { return sub.counters().subscriptions == 2; }));
    server.go_on();  // the end, the answer, and then the confirmation
    server.say_before_leaving({});
    auto next = joins.get();
    server.say(message_on("alarms:acme", "after"));
    CHECK(next_of(next) == "after");
    CHECK(next.counters().gaps == 0);
    CHECK_FALSE(leaves.next());
    next.unsubscribe();
    REQUIRE(eventually([&] { return server.asked("UNSUBSCRIBE alarms:acme") == 2 * i; }));
    CHECK(server.asked("SUBSCRIBE alarms:acme") == 2 * i);
  }
  CHECK(other.counters().gaps == 0);
  CHECK(sub.counters().outages == 0);
  CHECK(server.connections() == 1);
}

TEST_CASE("a subscriber that the server ends over unread output without further messages gets one gap, and goes on") {
  const support::must_end watch{110s};
  support::need_redis();
  const tn::testing::redis_server server{{.arguments = {"--client-output-buffer-limit", "pubsub 0 65536 1"}}};
  support::fault_proxy proxy{server.port()};
  const tn::client redis{proxy.url()};
  const tn::client direct{server.unix_url()};
  tn::subscriber sub{redis, {.heartbeat = 1h}};
  auto first = sub.subscribe<std::string>(alarms(acme), support::roomy);
  auto second = sub.subscribe<std::string>(alarms(acme), support::roomy);
  auto other = sub.subscribe<std::string>(alarms(globex), support::roomy);
  const tn::publisher pub{direct};
  const std::string some(50'000, 'y');
  const auto unread = [&] {
    const std::string listed = direct.execute("CLIENT", "LIST", "TYPE", "pubsub").str();
    const auto at = listed.find(" omem=");
    return at == std::string::npos ? std::size_t{0} : std::stoull(listed.substr(at + 6));
  };
  proxy.apply(support::flow::to_client, {.carries = support::faults::transport::holds}, support::reach::open);
  std::size_t published = 0;
  while (unread() <= 65'536) {
    REQUIRE(listening(direct, alarms(acme)) == 1);
    pub.publish(alarms(acme), some);
    ++published;
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
