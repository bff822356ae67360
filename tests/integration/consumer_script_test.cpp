// What the scripts of consumers answer, request by request, and what the keeper makes of it.

#include "messaging/consumer_machine.hpp"
#include "messaging/log_state.hpp"
#include "messaging/scripts.hpp"
#include "messaging/work_calls.hpp"
#include "messaging/work_keeper.hpp"
#include "support/cache_rig.hpp"
#include "support/fault_proxy.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using namespace std::chrono_literals;
using support::eventually;
using support::redis_rig;
using outcome = td::settled_work::outcome;

const tn::tenant_id acme{"acme"};
constexpr std::string_view stream = "log:{acme}:alarms";
constexpr std::string_view meta = "log:{acme}:alarms#meta";

tn::channel alarms_of(const tn::tenant_id& tenant) { return tn::channel_schema<"alarms:{tenant}">{}(tenant); }

/// A log, and consumers of the group "g" that say what the test tells them to.
struct rig {
  explicit rig(const tn::event_log_options& log_options = {})
      : log{std::make_shared<td::log_state>(redis.client, &alarms_of, log_options)} {}

  void append(int count) const {
    for (int i = 0; i < count; ++i) (void)log->append(acme, "x", {});
  }
  /// `forgets`: consumers that were silent for so many milliseconds, instead of the usual hour.
  [[nodiscard]] td::work_reply asks(const std::string& consumer, const td::work_request& what,
                                    const std::string& forgets = {}) const {
    const td::work_calls calls{*log, acme, group, consumer, how};
    const auto keys = calls.keys();
    auto arguments = calls.arguments(what);
    if (!forgets.empty()) arguments[11] = forgets;
    const std::vector<std::string_view> key_views{keys.begin(), keys.end()};
    const std::vector<std::string_view> argument_views{arguments.begin(), arguments.end()};
    return td::work_calls::answer(redis.client.eval(td::scripts::take_work(), key_views, argument_views));
  }
  [[nodiscard]] td::work_reply takes(const std::string& consumer, std::size_t count) const {
    return asks(consumer, {.count = count, .epoch = {}, .settled = {}});
  }
  [[nodiscard]] static td::work_request settling(const td::work_reply& of, td::settled_work what) {
    td::work_request request{.epoch = of.epoch, .settled = {}};
    for (const auto& each : of.given) {
      what.of = each;
      request.settled.push_back(what);
    }
    return request;
  }
  /// The offsets of what is not this consumer's any more.
  [[nodiscard]] std::vector<std::int64_t> keeps(const std::string& consumer, const td::work_reply& what) const {
    std::vector<std::string> arguments{group, consumer, what.epoch};
    for (const auto& each : what.given) arguments.push_back(std::to_string(each->offset));
    const std::vector<std::string_view> keys{stream, meta};
    const std::vector<std::string_view> views{arguments.begin(), arguments.end()};
    const tn::reply answer = redis.client.eval(td::scripts::keep_work(), keys, views);
    std::vector<std::int64_t> lost;
    for (const tn::reply& each : answer.elements()) {
      if (each.type() == tn::reply_type::integer) lost.push_back(each.integer());
    }
    return lost;
  }
  void ages(int offset, const std::string& owner) const {
    redis.client.execute("XCLAIM", stream, group, owner, 0, std::to_string(offset) + "-0", "IDLE", 3600000, "JUSTID");
  }
  [[nodiscard]] std::int64_t idle(int offset) const {
    const std::string id = std::to_string(offset) + "-0";
    return redis.client.execute("XPENDING", stream, group, id, id, 1)[0][2].integer();
  }
  [[nodiscard]] std::int64_t pending() const { return redis.client.execute("XPENDING", stream, group)[0].integer(); }

  redis_rig redis;
  std::shared_ptr<td::log_state> log;
  const std::string group = "g";
  tn::consume_options how{.max_attempts = 3, .claim_after = 30s};
};

}  // namespace

TEST_CASE("a search for work of the dead ends at what had been handed out when it began") {
  const rig r;
  r.append(15);
  auto held = r.takes("busy", 15);
  td::work_request search{
      .count = 1, .epoch = {}, .claim_from = std::string{td::consumer_machine::at_first}, .settled = {}};
  td::work_reply found = r.asks("b", search);
  REQUIRE_FALSE(found.claim_from.empty());  // there is more to look at
  // Others go on meanwhile: what is pending is always beyond where the search is.
  int requests = 1;
  for (; requests < 10 && !found.claim_from.empty(); ++requests) {
    r.append(15);
    td::work_request goes_on = rig::settling(held, {});
    goes_on.count = 15;
    held = r.asks("busy", goes_on);
    REQUIRE(held.given.size() == 15);
    search.claim_from = found.claim_from;
    found = r.asks("b", search);
  }
  CHECK(found.claim_from.empty());
}

TEST_CASE("what failed and is not kept by the log any more is counted as lost") {
  const rig r{{.keep = 2}};
  r.append(1);
  const auto held = r.takes("a", 1);
  r.append(2);
  const auto last = r.asks("a", rig::settling(held, {.what = outcome::again, .of = {}, .attempts = 1}));
  CHECK(last.trimmed == 1);
  CHECK(r.pending() == 0);
}

TEST_CASE("what is kept stays this consumer's; what another one has, or somebody settled, is lost") {
  const rig r;
  r.append(3);
  const auto held = r.takes("a", 3);
  r.ages(1, "a");
  r.ages(2, "b");
  td::work_reply third{.epoch = held.epoch, .claim_from = {}, .given = {held.given[2]}};
  (void)r.asks("a", rig::settling(third, {}));
  CHECK(r.keeps("a", held) == std::vector<std::int64_t>{2, 3});
  CHECK(r.idle(1) < 3600000);
  CHECK(r.idle(2) >= 3600000);
}

TEST_CASE("what a consumer holds is not lost where nobody else can be given it") {
  SECTION("the log does not keep it any more") {
    const rig r{{.keep = 2}};
    r.append(1);
    const auto held = r.takes("a", 1);
    r.append(2);
    CHECK(r.keeps("a", held).empty());
    CHECK(r.keeps("a", held).empty());
    CHECK(r.pending() == 1);  // who looks for it counts it, if nobody is done with it
    (void)r.asks("a", rig::settling(held, {}));
    CHECK(r.pending() == 0);
  }
  SECTION("the log is gone") {
    const rig r;
    r.append(1);
    const auto held = r.takes("a", 1);
    r.redis.client.execute("DEL", stream);
    CHECK(r.keeps("a", held).empty());
    r.redis.client.execute("DEL", meta);
    CHECK(r.keeps("a", held).empty());
  }
  SECTION("the log began anew, and another consumer has the event at that offset") {
    const rig r;
    r.append(1);
    const auto held = r.takes("a", 1);
    r.redis.client.execute("DEL", stream, meta);
    r.append(1);
    REQUIRE(r.takes("b", 1).given.size() == 1);
    CHECK(r.keeps("a", held).empty());
  }
}

TEST_CASE("what was lost is not kept any more when this consumer gets it again") {
  const rig r;
  r.append(2);
  auto held = r.takes("a", 2);
  r.ages(1, "b");
  const auto keeper = std::make_shared<td::work_keeper>(r.log, acme, r.group, "a", 90ms);
  keeper->keep({held.given[0], held.given[1]});
  REQUIRE(eventually([&] { return held.given[0]->lost.load(); }));
  CHECK_FALSE(held.given[1]->lost);
  // It failed there, came back, and failed here: now it waits.
  r.ages(1, "a");
  for (int i = 0; i < 2; ++i) {
    r.ages(2, "a");
    REQUIRE(eventually([&] { return r.idle(2) < 3600000; }));
  }
  CHECK(r.idle(1) >= 3600000);
  keeper->stop();
}

TEST_CASE("only its own event is a consumer told to have lost, not one of another log at the same offset") {
  const rig r;
  r.append(1);
  const auto old = r.takes("a", 1);
  r.redis.client.execute("DEL", stream, meta);
  r.append(2);
  const auto held = r.takes("a", 2);
  r.ages(2, "b");
  const auto keeper = std::make_shared<td::work_keeper>(r.log, acme, r.group, "a", 90ms);
  keeper->keep({old.given[0], held.given[0], held.given[1]});
  REQUIRE(eventually([&] { return held.given[1]->lost.load(); }));
  CHECK_FALSE(old.given[0]->lost);
  CHECK_FALSE(held.given[0]->lost);
  keeper->stop();
}

TEST_CASE("who leaves while it waits for an attempt takes nothing along") {
  const rig r;
  r.append(1);
  const auto held = r.takes("a", 1);
  auto last = rig::settling(held, {.what = outcome::again, .of = {}, .attempts = 1});
  last.leave = true;
  (void)r.asks("a", last);
  CHECK(r.pending() == 1);
  const auto found = r.asks("b", {.count = 1, .epoch = {}, .claim_from = "0-0", .settled = {}});
  REQUIRE(found.given.size() == 1);
  CHECK(found.given[0]->attempt == 2);
}

TEST_CASE("what belongs to another consumer by now is neither given back nor made a dead letter") {
  const rig r;
  r.append(1);
  const auto held = r.takes("a", 1);
  r.ages(1, "b");
  const auto what = GENERATE(outcome::again, outcome::dead);
  (void)r.asks("a", rig::settling(held, {.what = what, .of = {}, .after = 1s, .attempts = 0, .why = "no"}));
  CHECK(r.pending() == 1);
  CHECK(r.idle(1) >= 3600000);
  CHECK(r.redis.client.execute("EXISTS", std::string{stream} + "#dead:g").integer() == 0);
}

TEST_CASE("what was taken by who died is given alone, with one attempt more, and buried after the last") {
  const rig r;
  r.append(4);
  const auto held = r.takes("dead", 3);
  for (int i = 1; i <= 3; ++i) r.ages(i, "dead");
  const td::work_request search{.count = 10, .epoch = {}, .claim_from = "0-0", .settled = {}};
  for (std::uint32_t attempt = 2; attempt <= 3; ++attempt) {
    const auto found = r.asks("b", search);
    REQUIRE(found.given.size() == 1);
    CHECK(found.given[0]->offset == 1);
    CHECK(found.given[0]->attempt == attempt);
    r.ages(1, "dead");
  }
  const auto found = r.asks("b", search);
  CHECK(found.dead == 1);
  REQUIRE(found.given.size() == 1);
  CHECK(found.given[0]->offset == 4);  // the search goes on with the next request
  CHECK_FALSE(found.claim_from.empty());
  CHECK(r.pending() == 3);
}

TEST_CASE("what was pending when a log expired is counted as lost once it goes on") {
  const rig r;
  r.append(3);
  const auto held = r.takes("a", 2);
  td::work_reply first{.epoch = held.epoch, .claim_from = {}, .given = {held.given[0]}};
  (void)r.asks("a", rig::settling(first, {}));
  r.redis.client.execute("DEL", stream);  // as when its life is over: the meta lives longer
  r.append(1);
  const auto found = r.takes("b", 5);
  REQUIRE(found.given.size() == 1);
  CHECK(found.given[0]->offset == 4);
  CHECK(found.trimmed == 2);  // 2, which was pending, and 3, which nobody was given
  CHECK(r.takes("b", 5).trimmed == 0);
}

TEST_CASE("what is said of another log's event settles nothing, not even one with the same tag") {
  const rig r;
  r.append(1);
  const auto old = r.takes("a", 1);
  r.redis.client.execute("DEL", stream, meta);
  r.append(1);
  const auto held = r.takes("a", 1);
  REQUIRE(held.given.size() == 1);
  old.given[0]->tag = held.given[0]->tag;
  (void)r.asks("a", rig::settling(old, {}));
  CHECK(r.pending() == 1);
}

TEST_CASE("consumers that have nothing and are silent for long are forgotten, others are not") {
  const rig r;
  r.append(1);
  REQUIRE(r.takes("busy", 1).given.size() == 1);
  r.redis.client.execute("XGROUP", "CREATECONSUMER", stream, r.group, "idle");
  const auto there = [&](const std::string& name) {
    const tn::reply all = r.redis.client.execute("XINFO", "CONSUMERS", stream, r.group);
    return std::ranges::any_of(all.elements(), [&](const tn::reply& each) { return each[1].str() == name; });
  };
  const td::work_request search{.count = 1, .epoch = {}, .claim_from = "0-0", .settled = {}};
  (void)r.asks("b", search);
  CHECK(there("idle"));
  CHECK(eventually([&] {
    (void)r.asks("b", search, "0");
    return !there("idle");
  }));
  CHECK(there("busy"));
  CHECK(r.pending() == 1);
}

TEST_CASE("what is not kept any more is counted by who looks for what a lost answer gave, and by who claims") {
  rig r{{.keep = 2}};
  r.append(1);
  (void)r.takes("a", 1);
  r.append(2);
  SECTION("recover") {
    const auto found = r.asks("a", {.count = 5, .epoch = {}, .recover = 5, .settled = {}});
    CHECK(found.trimmed == 1);
    CHECK(found.given.size() == 2);
  }
  SECTION("claim") {
    r.how.claim_after = 30ms;
    const td::work_request search{.count = 5, .epoch = {}, .claim_from = "0-0", .settled = {}};
    CHECK(eventually([&] { return r.asks("b", search).trimmed == 1; }));
  }
  CHECK(r.redis.client.execute("XPENDING", stream, r.group, "1-0", "1-0", 1).elements().empty());
}

TEST_CASE("of a group's dead letters the last ones are kept") {
  rig r;
  r.how.keep_dead = 2;
  r.append(4);
  auto held = r.takes("a", 4);
  (void)r.asks("a", rig::settling(held, {.what = outcome::dead, .of = {}, .attempts = 1, .why = "no"}));
  const auto letters = r.redis.client.execute("XRANGE", std::string{stream} + "#dead:g", "-", "+");
  REQUIRE(letters.elements().size() == 2);
  CHECK(letters[1][1][1].str() == held.given[3]->id);
  CHECK(r.pending() == 0);
}

TEST_CASE("a group that begins with the latest gets all of a log that began anew, also where no consumer was there") {
  rig r;
  r.how.start = tn::group_start::latest;
  r.append(2);
  CHECK(r.takes("a", 5).given.empty());
  r.append(1);
  CHECK(r.takes("a", 5).given.size() == 1);
  // As of a server that lost the end of its data and the log with it: the hash stays, with what it knows of the group.
  r.redis.client.execute("DEL", stream);
  r.redis.client.execute("HSET", meta, "e", "bbbbbbbbbbbbbbbb", "s", 0);
  r.append(2);
  CHECK(r.takes("b", 5).given.size() == 2);
}

TEST_CASE("a keeper goes on after its connection was lost") {
  rig r;
  r.append(1);
  const auto held = r.takes("a", 1);
  support::fault_proxy proxy{redis_rig::server().port()};
  auto options = tn::client_options::from_url(proxy.url());
  options.timeout = 100ms;
  const tn::client through{options};
  const auto log = std::make_shared<td::log_state>(through, &alarms_of, tn::event_log_options{});
  const auto keeper = std::make_shared<td::work_keeper>(log, acme, r.group, "a", 90ms);
  r.ages(1, "a");
  keeper->keep({held.given[0]});
  REQUIRE(eventually([&] { return r.idle(1) < 3600000; }));
  proxy.refuse();
  proxy.reset();
  REQUIRE(eventually([&] { return r.idle(1) > 400; }));
  r.ages(1, "a");
  proxy.heal();
  CHECK(eventually([&] { return r.idle(1) < 3600000; }));
  keeper->stop();
}
