// What a fetch makes of values that other versions and other programs leave.

#include "machine_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <string>
#include <string_view>

using namespace machine_test;

namespace {

constexpr fetch_rules refreshes{.refresh_ahead = 0.75};

/// Up to the request for a lease to refresh a value.
void refresh(bench& on) {
  on.begin();
  REQUIRE(on.answer({number(20'000), text(value("v", {.ttl = 100s})), text(now_stamp)}) == step::decode);
  REQUIRE(on.tested.decoded(true) == step::ask);
}

}  // namespace

TEST_CASE("a request says its name, also after the call that asked for it") {
  CHECK(std::string{request::of("GET", value_key).name()} == "GET");
  CHECK(std::string{request::run(scripts::release(), {lease_key}, {"a"}).name()} == "EVALSHA");

  bench on;
  on.miss();
  on.answer({fault("NOPERM no")});
  REQUIRE(on.tested.failure());
  CHECK(on.tested.failure()->what() == "EVALSHA: NOPERM no"s);
}

TEST_CASE("a tag name whose last percent sign is cut off makes a value nothing") {
  for (const std::string_view name : {"%", "a%", "%4", "a%4", "%zz", "%=A"}) {
    std::string bytes = value("payload");
    bytes.insert(bytes.find('\n'), ' ' + std::string{name} + '=' + tag_text('a', 'b'));
    INFO(bytes);
    CHECK_FALSE(open_envelope(bytes, value_key));
  }
}

TEST_CASE("a refresh that meets a newer value goes on with the one at hand, whatever the newer one is") {
  for (const std::string& newer : {value("theirs", {.ttl = 100s, .version = 1}), value("not json", {.ttl = 100s})}) {
    bench on{refreshes};
    refresh(on);
    CHECK(on.answer({lease_hit(newer, 99'000)}) == step::answer);
    CHECK(on.tested.source() == fetch_source::redis);
    CHECK(on.tested.payload() == "v");
  }
}

TEST_CASE("a cache without stale copies serves none that the second look is the first to see") {
  bench on;
  on.lead();
  REQUIRE(on.tested.load_failed() == step::ask);
  // Another program put it meanwhile and expired it: of its life only the stale one is left.
  const std::string theirs = value("theirs", {.stale = 1h});
  const bool with_life = on.asks().size() == 4;
  step next = with_life ? on.answer({number(1), number(3'600'000), text(theirs), text(now_stamp)})
                        : on.answer({number(1), text(theirs), text(now_stamp)});
  if (next == step::ask) next = on.answer({number(3'600'000), text(theirs), text(now_stamp)});
  CHECK(next == step::give_up);
}

TEST_CASE("a value of another version under current stamps is named when the lease is asked for, as it is no hit") {
  bench on;
  on.begin();
  const std::string theirs = value("theirs", {.version = 1});
  REQUIRE(on.answer({text(theirs), text(now_stamp)}) == step::ask);
  CHECK(on.tested.take_findings().defect);
  CHECK(on.asks() == texts{on.acquire("load", now_stamp, "0", theirs)});
}

TEST_CASE("a loader is shown what was seen only if it is still there when the lease is taken") {
  for (const std::int64_t same : {1, 0}) {
    bench on{{.stale_for = 1h}};
    on.begin();
    const std::string stale = value("old", {.stale = 1h});
    REQUIRE(on.answer({number(5), text(stale), text(now_stamp)}) == step::ask);
    CHECK(on.tested.requests().back().words().back() == stale.substr(0, stale.find('\n')));
    on.answer({list({text("lease"), text("1000"), text("5"), number(0), number(same)})});
    CHECK(on.tested.has_candidate() == (same == 1));
  }
}
