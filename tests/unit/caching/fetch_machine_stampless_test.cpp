// Tenants that have no stamp yet, and values that have none at all.

#include "machine_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <string>

using namespace machine_test;

TEST_CASE("a tenant without a stamp gets one before the lease is asked for under it") {
  for (const reply& before : {nil(), text("no stamp"), text("")}) {
    bench on;
    on.begin();
    REQUIRE(on.answer({text(value("v")), before}) == step::ask);
    CHECK_FALSE(on.tested.asks_for_lease());
    const std::string asked = on.asks().at(0);
    const std::string proposed = asked.substr(("SET " + stamp_name + ' ').size(), tenant_stamp::size);
    REQUIRE(tenant_stamp::parse(proposed));
    CHECK(on.asks() == texts{"SET " + stamp_name + ' ' + proposed + " NX GET PX " + day});
    REQUIRE(on.answer({nil()}) == step::ask);
    CHECK(on.asks() == texts{on.acquire("load", proposed)});
    REQUIRE(on.answer({lease_given()}) == step::board);
    CHECK(on.tested.identity() == on.lease(proposed));
    on.board(boarding::leads);
    on.tested.loaded(outcome());
    CHECK(on.asks().back().find("tn1 " + proposed + ' ') != std::string::npos);
  }
}

TEST_CASE("when another was first with the stamp, the lease is asked for under that one") {
  bench on;
  on.begin();
  on.answer({nil(), nil()});
  REQUIRE(on.answer({text(now_stamp)}) == step::ask);
  CHECK(on.asks() == texts{on.acquire("load", now_stamp)});
}

TEST_CASE("a stamp that is none and stays is as no answer") {
  bench on;
  on.begin();
  on.answer({nil(), text("no stamp")});
  CHECK(on.answer({text("no stamp")}) == step::board);
  CHECK(on.tested.redis_failed());
  CHECK_FALSE(on.tested.holds_lease());
  CHECK(on.tested.identity() == "no redis");
  REQUIRE(on.tested.failure());
  CHECK(on.tested.failure()->code() == tenantry::errc::unexpected_reply);
}

TEST_CASE("each fetch has a token of its own") {
  bench one;
  bench other;
  one.miss();
  other.miss();
  CHECK(one.token() != other.token());
}

TEST_CASE("bare values have no stamps: a hit is one read, and all bytes are a value") {
  bench on{{.bare = true}};
  on.begin();
  CHECK(on.asks() == texts{"GET " + value_key});
  REQUIRE(on.answer({text("{\"a\":1}")}) == step::decode);
  CHECK(on.tested.payload() == "{\"a\":1}");
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::redis);
  CHECK_FALSE(on.tested.computed_at());

  bench sealed{{.bare = true}};
  sealed.begin();
  REQUIRE(sealed.answer({text(value("v"))}) == step::decode);
  CHECK(sealed.tested.payload() == value("v"));
}

TEST_CASE("bare values are loaded under a lease as all others, and stored as they are") {
  bench on{{.bare = true}};
  on.begin();
  REQUIRE(on.answer({nil()}) == step::ask);
  const std::string nobodys{tenant_stamp::nobodys().str()};
  CHECK(on.asks() == texts{on.acquire("load", nobodys)});
  REQUIRE(on.lead_from_here() == step::load);
  on.tested.loaded(outcome());
  CHECK(on.asks() == texts{"store " + all_keys + ' ' + on.lease(nobodys) + " new 300000"});
  CHECK(on.answer({number(1)}) == step::answer);
  CHECK(on.tested.stored());
  CHECK_FALSE(on.tested.computed_at());
  CHECK(on.trips == 3);
}

TEST_CASE("a bare value that came meanwhile is a hit, and after a failed load what is there is served") {
  bench on{{.bare = true}};
  on.begin();
  on.answer({nil()});
  REQUIRE(on.answer({lease_hit("theirs", 0)}) == step::decode);
  CHECK(on.tested.payload() == "theirs");
  CHECK(on.tested.decoded(true) == step::answer);

  bench failed{{.bare = true}};
  failed.begin();
  failed.answer({nil()});
  failed.lead_from_here();
  REQUIRE(failed.tested.load_failed() == step::ask);
  CHECK(failed.asks().size() == 2);
  REQUIRE(failed.answer({number(1), text("put meanwhile")}) == step::decode);
  CHECK(failed.tested.decoded(true) == step::answer);
  CHECK(failed.tested.source() == fetch_source::redis);
}
