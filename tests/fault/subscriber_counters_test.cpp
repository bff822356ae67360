// What subscriptions count under load, and messages that cannot be decoded.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/listener.hpp"
#include "support/random_bytes.hpp"

#include <tenantry/client.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
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
using support::follower;
using support::next_of;
using support::numbers_at_full_speed;
using support::redis_rig;
using support::roomy;
using support::text_feed;

const tn::tenant_id acme{"acme"};

struct note {
  std::string id;
  int level = 0;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(note, id, level)

/// Throws what is no std::exception for every other message.
struct odd_codec {
  [[nodiscard]] std::string encode(int value) const { return std::to_string(value); }
  [[nodiscard]] int decode(std::string_view bytes) const {
    const int value = std::stoi(std::string{bytes});
    if (value % 2 == 1) throw value;
    return value;
  }
};

struct tally {
  std::uint64_t messages = 0;
  std::uint64_t dropped = 0;
  std::uint64_t wrong = 0;
  bool closed = false;
};

/// Takes what is queued; the numbers that are missing have to be the dropped ones, where they are missing.
tally drain(text_feed& from, std::uint64_t first) {
  tally all;
  std::uint64_t expected = first;
  while (const auto event = from.next_for(100ms)) {
    if (const auto* came = std::get_if<tn::message<std::string>>(&*event)) {
      const std::uint64_t number = std::stoull(came->value);
      if (number != expected) ++all.wrong;
      expected = number + 1;
      ++all.messages;
    } else if (const auto* behind = std::get_if<tn::lagged>(&*event)) {
      if (behind->dropped == 0) ++all.wrong;
      expected += behind->dropped;
      all.dropped += behind->dropped;
    } else if (std::holds_alternative<tn::closed>(*event)) {
      all.closed = true;
    } else {
      ++all.wrong;
    }
  }
  return all;
}

}  // namespace

TEST_CASE("counters add up at every moment under load, with each policy, read and unread") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  std::deque<text_feed> feeds;
  for (const auto policy : {tn::overflow::drop_oldest, tn::overflow::drop_newest, tn::overflow::disconnect}) {
    for (const std::size_t capacity : {1U, 7U, 1000U}) {
      feeds.push_back(sub.subscribe<std::string>(alarms(acme), {.capacity = capacity, .overflow = policy}));
      feeds.push_back(sub.subscribe<std::string>(alarms(acme), {.capacity_bytes = capacity * 6, .overflow = policy}));
    }
  }
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> wrong = 0;
  std::vector<std::thread> readers;
  for (text_feed& each : feeds) {
    readers.emplace_back([&] {
      while (!over) {
        for (int i = 0; i < 50; ++i) (void)each.try_next();
        const auto all = each.counters();
        if (!support::adds_up(all) || all.most_queued < all.queued) ++wrong;
        std::this_thread::yield();
      }
    });
  }
  {
    numbers_at_full_speed numbers{redis_rig::server().unix_url(), alarms(acme)};
    REQUIRE(eventually([&] { return numbers.last() > 20'000; }));
  }
  over = true;
  for (std::thread& each : readers) each.join();
  CHECK(wrong == 0);
  for (text_feed& each : feeds) CHECK(support::adds_up(each.counters()));
}

TEST_CASE("one that never reads keeps what its policy says, with lagged where they are missing; nine others get all") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  std::deque<follower> nine;
  for (int i = 0; i < 9; ++i) nine.emplace_back(sub.subscribe<std::string>(alarms(acme), roomy));
  using tn::overflow;
  auto oldest = sub.subscribe<std::string>(alarms(acme), {.capacity = 100});
  auto newest = sub.subscribe<std::string>(alarms(acme), {.capacity = 100, .overflow = overflow::drop_newest});
  auto ended = sub.subscribe<std::string>(alarms(acme), {.capacity = 100, .overflow = overflow::disconnect});
  auto by_bytes = sub.subscribe<std::string>(alarms(acme), {.capacity_bytes = 600});
  std::uint64_t last = 0;
  {
    numbers_at_full_speed numbers{redis_rig::server().unix_url(), alarms(acme)};
    REQUIRE(eventually([&] { return numbers.last() >= 100'000; }));
    last = numbers.stop();
  }
  for (follower& each : nine) {
    REQUIRE(eventually([&] { return each.last == last; }));
    CHECK(each.messages == last);
    CHECK(each.disordered + each.missing + each.lagging + each.gaps == 0);
  }
  REQUIRE(eventually([&] { return by_bytes.counters().received == last && newest.counters().received == last; }));
  CHECK(by_bytes.counters().queued_bytes <= 600);
  for (text_feed* each : {&oldest, &newest, &by_bytes}) {
    const auto before = each->counters();
    CHECK(before.received == last);
    CHECK(before.delivered == 0);
    CHECK(support::adds_up(before));
    const tally all = drain(*each, 1);
    CHECK(all.wrong == 0);
    CHECK(all.messages == before.queued);
    CHECK(all.messages + all.dropped == last);
    CHECK_FALSE(all.closed);
    CHECK(each->counters().queued_bytes == 0);
  }
  const auto at_end = ended.counters();
  CHECK(support::adds_up(at_end));
  const tally all = drain(ended, 1);
  CHECK(all.wrong == 0);
  CHECK(all.messages == 100);
  CHECK(all.closed);
  CHECK(support::adds_up(ended.counters()));
  CHECK(sub.counters().subscriptions == 12);  // the slow one is none any more
}

TEST_CASE("numbers that are missing are those that lagged tells, however reading and messages take turns") {
  const redis_rig redis;
  support::random_bytes random;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  for (const auto policy : {tn::overflow::drop_oldest, tn::overflow::drop_newest}) {
    CAPTURE(static_cast<int>(policy));
    auto feed = sub.subscribe<std::string>(alarms(acme), {.capacity = 5, .overflow = policy});
    std::uint64_t published = 0;
    std::uint64_t expected = 1;
    std::size_t wrong = 0;
    for (int round = 0; round < 300; ++round) {
      std::vector<tn::outgoing> some;
      for (std::size_t n = random.below(12); n > 0; --n) {
        some.push_back({.to = alarms(acme), .payload = std::to_string(++published)});
      }
      if (!some.empty()) pub.publish_all(some);
      REQUIRE(eventually([&] { return feed.counters().received == published; }));
      for (std::size_t n = random.below(12); n > 0; --n) {
        const auto event = feed.try_next();
        if (!event) break;
        if (const auto* behind = std::get_if<tn::lagged>(&*event)) {
          expected += behind->dropped;
        } else if (support::words(event) == std::to_string(expected)) {
          ++expected;
        } else {
          ++wrong;
        }
      }
    }
    const tally rest = drain(feed, expected);
    CHECK(wrong + rest.wrong == 0);
    CHECK(expected + rest.messages + rest.dropped == published + 1);
    CHECK(support::adds_up(feed.counters()));
  }
}

TEST_CASE("what cannot be decoded is counted and told without its payload, and the stream goes on for all") {
  support::need_redis();
  const redis_rig empty;
  support::listener heard;
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.observer = heard.ear();
  const tn::client redis{options};
  tn::subscriber sub{redis};
  auto typed = sub.subscribe<note>(alarms(acme));
  auto odd = sub.subscribe<int, odd_codec>(support::news(acme, "odd"));
  auto raw = sub.subscribe<std::string>(alarms(acme));
  const tn::publisher pub{redis};
  const std::vector<std::string> bad{"topsecret",
                                     R"("topsecret")",
                                     R"({"id":"topsecret")",
                                     R"({"id":1,"topsecret":2})",
                                     R"({"id":"topsecret","level":"topsecret"})",
                                     "",
                                     std::string("\0\xff", 2),
                                     R"({"id":topsecret})"};
  for (const std::string& each : bad) pub.publish(alarms(acme), each);
  pub.publish(alarms(acme), note{.id = "good", .level = 1});
  const auto event = typed.next_for(20s);
  REQUIRE(event);
  CHECK(std::get<tn::message<note>>(*event).value.id == "good");
  CHECK(typed.counters().undecodable == bad.size());
  CHECK(typed.counters().delivered == bad.size() + 1);
  for (const std::string& each : bad) CHECK(next_of(raw) == each);
  for (int i = 0; i < 10; ++i) pub.publish(support::news(acme, "odd"), std::to_string(i));
  for (int i = 0; i < 10; i += 2) {
    const auto number = odd.next_for(20s);
    REQUIRE(number);
    CHECK(std::get<tn::message<int>>(*number).value == i);
  }
  while (odd.counters().undecodable < 5) REQUIRE_FALSE(odd.next_for(1s));
  CHECK(support::adds_up(odd.counters()));
  REQUIRE(eventually([&] { return heard.all(tn::events::decode_error).size() >= 2; }));
  for (const auto& told : heard.all(tn::events::decode_error)) {
    for (const auto& [name, text] : told.text) {
      CAPTURE(name, text);
      CHECK(text.find("topsecret") == std::string::npos);
    }
    CHECK(told.text.contains("channel"));
    CHECK(told.number.contains("bytes"));
  }
}

TEST_CASE("each payload that the JSON codec refuses is told without its bytes") {
  support::need_redis();
  const redis_rig empty;
  for (const char* const bad :
       {"topsecret", R"("topsecret")", R"({"id":"topsecret")", R"({"id":"topsecret","level":"topsecret"})",
        R"({"id":"topsecret\q"})", R"([topsecret])", R"({"topsecret" 1})"}) {
    CAPTURE(bad);
    support::listener heard;
    auto options = tn::client_options::from_url(redis_rig::server().url());
    options.observer = heard.ear();
    const tn::client redis{options};
    tn::subscriber sub{redis};
    auto typed = sub.subscribe<note>(alarms(acme));
    (void)tn::publisher{redis}.publish(alarms(acme), std::string_view{bad});
    REQUIRE(eventually([&] { return !typed.try_next() && typed.counters().undecodable == 1; }));
    REQUIRE(eventually([&] { return heard.all(tn::events::decode_error).size() == 1; }));
    const auto told = heard.all(tn::events::decode_error).front();
    CHECK(told.number.at("bytes") == static_cast<std::int64_t>(std::string_view{bad}.size()));
    for (const auto& [name, text] : told.text) {
      CAPTURE(name, text);
      CHECK(text.find("secret") == std::string::npos);
    }
  }
}
