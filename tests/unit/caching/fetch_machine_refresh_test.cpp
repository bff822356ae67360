// Values that are fresh but not for long: who loads them anew, and what all others get.

#include "machine_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>

using namespace machine_test;

namespace {

const std::string theirs = "someoneelse " + now_stamp;
constexpr fetch_rules refreshes{.refresh_ahead = 0.75};

/// Up to the request for a lease to refresh a value of 100 s, of whose life so much is left.
step refresh(bench& on, std::int64_t life = 25'000) {
  on.begin();
  REQUIRE(on.answer({number(life), text(value("v", {.ttl = 100s})), text(now_stamp)}) == step::decode);
  return on.tested.decoded(true);
}

}  // namespace

TEST_CASE("a fresh value is refreshed from the chosen fraction of its ttl on, and not before") {
  bench early{refreshes};
  CHECK(refresh(early, 25'001) == step::answer);
  CHECK_FALSE(early.tested.refreshing());
  CHECK(early.trips == 1);

  bench on{refreshes};
  REQUIRE(refresh(on, 25'000) == step::ask);
  CHECK(on.tested.refreshing());
  CHECK(on.tested.has_candidate());
  CHECK(on.asks() == texts{on.acquire("load", now_stamp, "25000")});
}

TEST_CASE("the window for a refresh is that of the fresh life, without the stale one") {
  for (const std::int64_t life : {3'625'000, 3'625'001}) {
    bench on{{.stale_for = 1h, .refresh_ahead = 0.75}};
    on.begin();
    on.answer({number(life), text(value("v", {.stale = 1h, .ttl = 100s})), text(now_stamp)});
    CHECK(on.tested.decoded(true) == (life == 3'625'000 ? step::ask : step::answer));
  }
}

TEST_CASE("who refreshes loads and stores, and answers with the new value") {
  bench on{refreshes};
  refresh(on);
  REQUIRE(on.lead_from_here() == step::load);
  CHECK(on.tested.payload() == "v");  // for the loader to look at
  on.tested.loaded(outcome());
  CHECK(on.store_answer(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::computed);
  CHECK(on.tested.stored());
}

TEST_CASE("a value to be refreshed is served when the refresh is not this fetch's to make") {
  for (const reply& refusal :
       {lease_busy(theirs), lease_busy("someone " + stamp('x', '2', '3')), held_busy(theirs), marker(500)}) {
    bench on{refreshes};
    refresh(on);
    CHECK(on.answer({refusal}) == step::answer);
    CHECK(on.tested.source() == fetch_source::redis);
    CHECK(on.tested.payload() == "v");
    CHECK(on.trips == 2);
  }
  bench away{refreshes};
  refresh(away);
  CHECK(away.no_answer() == step::answer);
  CHECK(away.tested.source() == fetch_source::redis);
}

TEST_CASE("a value whose refresh failed is served if it still stands at a second look") {
  for (const bool stands : {true, false}) {
    bench on{refreshes};
    refresh(on);
    on.lead_from_here();
    REQUIRE(on.tested.load_failed() == step::ask);
    const std::string now = stands ? now_stamp : stamp('x', '2', '3');
    REQUIRE(on.answer({number(1), number(19'000), text(value("v", {.ttl = 100s})), text(now)}) ==
            (stands ? step::decode : step::give_up));
    if (!stands) continue;
    CHECK(on.tested.decoded(true) == step::answer);
    CHECK(on.tested.source() == fetch_source::redis);
  }
}

TEST_CASE("the tags of a value whose refresh failed are looked at again, and may have moved meanwhile") {
  for (const bool moved : {false, true}) {
    bench on{refreshes};
    const reply bytes = text(value("v", {.stamp = stamp('1', '2', 'x'), .ttl = 100s, .tags = {tagged("a", 'a', 'b')}}));
    on.begin();
    on.answer({number(20'000), bytes, text(now_stamp)});
    REQUIRE(on.answer({list({text(tag_text('a', 'b'))})}) == step::decode);
    REQUIRE(on.tested.decoded(true) == step::ask);
    on.lead_from_here();
    on.tested.load_failed();
    REQUIRE(on.answer({number(1), number(19'000), bytes, text(stamp('1', '2', '4'))}) == step::ask);
    CHECK(on.asks() == texts{"MGET " + stamp_name + ":tag:a"});
    CHECK(on.answer({list({text(tag_text(moved ? 'x' : 'a', 'b'))})}) == (moved ? step::give_up : step::decode));
  }
}
