// Fetches of a cache that keeps values in memory: what is tracked, for how long a value may be kept, and stamps that
// are known without being read.

#include "machine_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

using namespace machine_test;

namespace {

constexpr fetch_rules keeps{.near = true};

std::optional<tenant_stamp> known(const std::string& text = now_stamp) { return tenant_stamp::parse(text); }

/// Which of its requests are tracked.
std::vector<bool> tracks(const bench& on) {
  std::vector<bool> all;
  for (const request& each : on.tested.requests()) all.push_back(each.is_tracked());
  return all;
}

}  // namespace

TEST_CASE("what is read first of a value, and its stamps, is tracked, and its life says how long it may be kept") {
  bench on{keeps};
  on.begin();
  CHECK(on.asks() == texts{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name});
  CHECK(tracks(on) == std::vector<bool>{true, false, true});

  const stored moved{.stamp = stamp('1', '2', 'x'), .tags = {tagged("red", 'a', 'b')}};
  REQUIRE(on.answer({number(1000), text(value("v", moved)), text(now_stamp)}) == step::ask);
  CHECK(on.asks() == texts{"MGET " + stamp_name + ":tag:red"});
  CHECK(tracks(on) == std::vector<bool>{true});
  REQUIRE(on.answer({list({text(tag_text('a', 'b'))})}) == step::decode);
  REQUIRE(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.looked_and_found());
  REQUIRE(on.tested.tags_now().size() == 1);
  CHECK(on.tested.tags_now().front()->str() == tag_text('a', 'b'));
}

TEST_CASE("a cache that keeps nothing tracks nothing") {
  bench on;
  on.begin();
  CHECK(tracks(on) == std::vector<bool>{false, false});
}

TEST_CASE("a look after a load, and all that is asked for a lease, is not tracked") {
  bench on{keeps};
  REQUIRE(on.lead() == step::load);
  REQUIRE(on.tested.load_failed() == step::ask);
  CHECK(tracks(on) == std::vector<bool>{false, false, false, false});
}

TEST_CASE("T11: a value may be kept for as long as Redis gives it, and as it was to live at all") {
  const auto fresh_for = [](fetch_rules rules, std::int64_t life, const stored& how) {
    bench on{rules};
    on.begin();
    REQUIRE(on.answer({number(life), text(value("v", how)), text(now_stamp)}) == step::decode);
    REQUIRE(on.tested.decoded(true) == step::answer);
    REQUIRE(on.tested.looked_and_found());
    return on.tested.fresh_for();
  };
  CHECK(fresh_for(keeps, 1234, {}) == 1234);
  CHECK(fresh_for(keeps, -1, {}) == std::numeric_limits<std::int64_t>::max());
  // The life is that of the value before, which was replaced by one that lives for a second.
  CHECK(fresh_for(keeps, 300'000, {.ttl = 1s}) == 1000);
  // Beyond it is the stale copy, which is not kept.
  CHECK(fresh_for({.stale_for = 1h, .near = true}, 3'600'700, {.stale = 1h}) == 700);
  // Up to when it is due for a refresh: a quarter of 100 s before its end.
  CHECK(fresh_for({.refresh_ahead = 0.75, .near = true}, 60'000, {.ttl = 100s}) == 35'000);
}

TEST_CASE("a value that is to be refreshed, was refreshed by others, or is stale is not to be kept") {
  bench due{{.refresh_ahead = 0.75, .near = true}};
  due.begin();
  due.answer({number(20'000), text(value("v", {.ttl = 100s})), text(now_stamp)});
  REQUIRE(due.tested.decoded(true) == step::ask);
  SECTION("it is read by a script, which tracks nothing") {
    REQUIRE(due.answer({lease_hit(value("w", {.ttl = 100s}), 100'000)}) == step::answer);
    CHECK_FALSE(due.tested.looked_and_found());
  }
  SECTION("somebody else refreshes it") {
    REQUIRE(due.answer({lease_busy("someone " + now_stamp)}) == step::answer);
    CHECK_FALSE(due.tested.looked_and_found());
  }
}

TEST_CASE("without an envelope the life is read after the value, so that it is never that of one before") {
  bench on{{.bare = true, .near = true}};
  on.begin();
  CHECK(on.asks() == texts{"GET " + value_key, "PTTL " + value_key});
  REQUIRE(on.answer({text("v"), number(900)}) == step::decode);
  REQUIRE(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.payload() == "v");
  CHECK(on.tested.fresh_for() == 900);
}

TEST_CASE("a key of another type is a miss, wherever the life is read") {
  bench with{keeps};
  with.begin();
  CHECK(with.answer({number(-1), wrong_type, text(now_stamp)}) == step::ask);
  CHECK(with.tested.take_findings().wrong_type);
  bench bare{{.bare = true, .near = true}};
  bare.begin();
  CHECK(bare.answer({wrong_type, number(-1)}) == step::ask);
  CHECK(bare.tested.take_findings().wrong_type);
}

TEST_CASE("a stamp that is known is not read with a fresh value") {
  bench on{keeps};
  REQUIRE(on.tested.begin(known()) == step::ask);
  CHECK(on.asks() == texts{"PTTL " + value_key, "GET " + value_key});
  REQUIRE(on.answer({number(1000), text(value("v"))}) == step::decode);
  REQUIRE(on.tested.decoded(true) == step::answer);
  CHECK(on.trips == 1);
  CHECK(on.tested.looked_and_found());
}

TEST_CASE("a stamp that is only known leads to no load: it is read first") {
  const texts whole{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name};
  bench on{keeps};
  static_cast<void>(on.tested.begin(known()));
  SECTION("nothing is there") { REQUIRE(on.answer({number(-2), nil()}) == step::ask); }
  SECTION("the value is of another stamp, which may be the newer one") {
    REQUIRE(on.answer({number(1000), text(value("v", {.stamp = stamp('x', '2', '3')}))}) == step::ask);
  }
  SECTION("the value is stale") { REQUIRE(on.answer({number(0), text(value("v"))}) == step::ask); }
  SECTION("the codec refuses it") {
    REQUIRE(on.answer({number(1000), text(value("v"))}) == step::decode);
    REQUIRE(on.tested.decoded(false) == step::ask);
  }
  SECTION("a tag of it was invalidated") {
    const stored moved{.stamp = stamp('1', '2', 'x'), .tags = {tagged("red", 'a', 'b')}};
    REQUIRE(on.answer({number(1000), text(value("v", moved))}) == step::ask);
    REQUIRE(on.answer({list({text(tag_text('z', 'b'))})}) == step::ask);
  }
  REQUIRE(on.asks() == whole);
  CHECK_FALSE(on.tested.asks_for_lease());
  CHECK_FALSE(on.tested.knew_stamp());
  REQUIRE(on.answer({number(-2), nil(), text(stamp('9', '2', '3'))}) == step::ask);
  CHECK(on.asks() == texts{on.acquire("load", stamp('9', '2', '3'))});
}

TEST_CASE("a value that is due is refreshed under the stamp that is read for it") {
  bench on{{.refresh_ahead = 0.75, .near = true}};
  static_cast<void>(on.tested.begin(known()));
  REQUIRE(on.answer({number(20'000), text(value("v", {.ttl = 100s}))}) == step::decode);
  REQUIRE(on.tested.decoded(true) == step::ask);
  CHECK_FALSE(on.tested.refreshing());
  REQUIRE(on.answer({number(20'000), text(value("v", {.ttl = 100s})), text(now_stamp)}) == step::decode);
  REQUIRE(on.tested.decoded(true) == step::ask);
  CHECK(on.tested.refreshing());
}
