// A fetch that goes well: hits, misses, what is stored, and whose loads are joined.

#include "machine_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <optional>
#include <string>
#include <string_view>

using namespace machine_test;

TEST_CASE("a hit is one round trip for the value and its tenant's stamp") {
  bench on;
  CHECK(on.begin() == step::ask);
  CHECK(on.asks() == texts{"GET " + value_key, "GET " + stamp_name});
  CHECK(on.tested.still_looking());
  CHECK_FALSE(on.tested.asks_for_lease());
  CHECK(on.answer({text(value("hello")), text(now_stamp)}) == step::decode);
  CHECK(on.tested.payload() == "hello");
  CHECK_FALSE(on.tested.absent());
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.trips == 1);
  CHECK(on.tested.source() == fetch_source::redis);
  CHECK(on.tested.computed_at() == std::optional<std::chrono::microseconds>{77s});
  CHECK_FALSE(on.tested.stored());
  CHECK_FALSE(on.tested.leads());
  CHECK_FALSE(on.tested.restamp());
  CHECK_FALSE(on.tested.failure());
}

TEST_CASE("a hit may say that there is none") {
  bench on;
  on.begin();
  CHECK(on.answer({text(value("", {.absent = true})), text(now_stamp)}) == step::decode);
  CHECK(on.tested.absent());
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::redis);
}

TEST_CASE("where stale copies are kept, the life is read in the same round trip, before the value") {
  bench on{{.stale_for = 1h}};
  CHECK(on.begin() == step::ask);
  CHECK(on.asks() == texts{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name});
  CHECK(on.answer({number(3'600'001), text(value("v", {.stale = 1h})), text(now_stamp)}) == step::decode);
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::redis);
  CHECK(on.trips == 1);
}

TEST_CASE("a value of which no more than its stale life is left is not fresh, and has to be loaded") {
  for (const std::int64_t life : {3'600'000, 1, 0, -2}) {
    bench on{{.stale_for = 1h}};
    on.begin();
    INFO("life " << life);
    CHECK(on.answer({number(life), text(value("v", {.stale = 1h})), text(now_stamp)}) == step::ask);
    CHECK(on.asks() == texts{on.acquire()});
    CHECK(on.tested.has_candidate());
  }
}

TEST_CASE("a value without an end of its life is fresh") {
  bench on{{.stale_for = 1h, .refresh_ahead = 0.5}};
  on.begin();
  CHECK(on.answer({number(-1), text(value("v", {.stale = 1h})), text(now_stamp)}) == step::decode);
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::redis);
}

TEST_CASE("the stale copy of a program that keeps them is no hit for a cache that does not") {
  for (const bool fresh : {true, false}) {
    bench on;
    on.begin();
    const std::string theirs = value("v", {.stale = 1h});
    REQUIRE(on.answer({text(theirs), text(now_stamp)}) == step::ask);
    CHECK(on.asks() == texts{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name});
    CHECK(on.answer({number(fresh ? 3'600'001 : 3'600'000), text(theirs), text(now_stamp)}) ==
          (fresh ? step::decode : step::ask));
    CHECK(on.tested.asks_for_lease() == !fresh);
    CHECK(on.trips == 2);
  }
}

TEST_CASE("a value under another hard or soft token is not served, and one under another tags token is") {
  struct row {
    std::string then;
    bool hit;
  };
  for (const row& each :
       {row{stamp('1', '2', '3'), true}, row{stamp('x', '2', '3'), false}, row{stamp('1', 'x', '3'), false},
        row{stamp('x', 'x', 'x'), false}, row{stamp('1', '2', 'x'), true}}) {  // it has no tags
    bench on;
    on.begin();
    INFO(each.then);
    const step next = on.answer({text(value("v", {.stamp = each.then})), text(now_stamp)});
    CHECK(next == (each.hit ? step::decode : step::ask));
    CHECK(on.tested.asks_for_lease() == !each.hit);
  }
}

TEST_CASE("when a tag of the tenant moved, the value's tags are read in a second round trip, and it is restamped") {
  bench on;
  const std::string bytes =
      value("v", {.stamp = stamp('1', '2', 'x'), .tags = {tagged("property:42", 'a', 'b'), tagged("b", 'c', 'd')}});
  on.begin();
  REQUIRE(on.answer({text(bytes), text(now_stamp)}) == step::ask);
  CHECK(on.asks() == texts{"MGET " + stamp_name + ":tag:property%3A42 " + stamp_name + ":tag:b"});
  CHECK(on.tested.still_looking());
  REQUIRE(on.answer({list({text(tag_text('a', 'b')), text(tag_text('c', 'd'))})}) == step::decode);
  CHECK(on.tested.payload() == "v");
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::redis);
  CHECK(on.trips == 2);
  REQUIRE(on.tested.restamp());
  CHECK(words_of(*on.tested.restamp()) ==
        "restamp " + value_key + ' ' + bytes.substr(0, bytes.find('\n')) + ' ' + std::string(11, '3'));
}

TEST_CASE("a value with tags needs no look at them while no tag of the tenant moved") {
  bench on;
  on.begin();
  CHECK(on.answer({text(value("v", {.tags = {tagged("a", 'a', 'b')}})), text(now_stamp)}) == step::decode);
  CHECK(on.trips == 1);
  CHECK_FALSE(on.tested.restamp());
}

TEST_CASE("a value of which any tag moved is not served, and not restamped") {
  const reply same = text(tag_text('a', 'b'));
  for (const reply& moved : {text(tag_text('x', 'b')), text(tag_text('a', 'x')), text(tag_text('x', 'x')), nil(),
                             text("no stamp"), text("")}) {
    for (const bool first : {true, false}) {
      bench on;
      on.begin();
      on.answer(
          {text(value("v", {.stamp = stamp('1', '2', 'x'), .tags = {tagged("a", 'a', 'b'), tagged("b", 'a', 'b')}})),
           text(now_stamp)});
      REQUIRE(on.answer({first ? list({moved, same}) : list({same, moved})}) == step::ask);
      CHECK(on.asks() == texts{on.acquire()});
      CHECK_FALSE(on.tested.restamp());
    }
  }
}

TEST_CASE("a hard or soft token that moved decides whatever the tags say") {
  const std::vector<stamped_tag> tags{tagged("a", 'a', 'b')};
  bench hard;
  hard.begin();
  hard.answer({text(value("v", {.stamp = stamp('x', '2', 'x'), .tags = tags})), text(now_stamp)});
  CHECK(hard.tested.asks_for_lease());

  bench soft;
  soft.begin();
  soft.answer({text(value("v", {.stamp = stamp('1', 'x', 'x'), .tags = tags})), text(now_stamp)});
  if (!soft.tested.asks_for_lease()) soft.answer({list({text(tag_text('a', 'b'))})});
  CHECK(soft.tested.asks_for_lease());
}

TEST_CASE("a miss is two round trips before the load and one after it") {
  bench on;
  REQUIRE(on.miss() == step::ask);
  CHECK(on.tested.asks_for_lease());
  CHECK_FALSE(on.tested.still_looking());
  CHECK(on.asks() == texts{on.acquire()});
  CHECK(on.tested.asked_lease() == on.token() + ' ' + now_stamp);
  CHECK_FALSE(on.tested.holds_lease());
  REQUIRE(on.answer({lease_given()}) == step::board);
  CHECK(on.tested.holds_lease());
  CHECK(on.tested.lease() == on.lease());
  CHECK(on.tested.lease_key() == lease_key);
  CHECK(on.tested.identity() == on.lease());
  CHECK(on.tested.may_lead());
  REQUIRE(on.board(boarding::leads) == step::load);
  CHECK(on.tested.leads());
  CHECK_FALSE(on.tested.has_candidate());
  CHECK(on.trips == 2);

  REQUIRE(on.tested.loaded(outcome()) == step::ask);
  CHECK(on.tested.ends_load());
  const std::string sealed =
      seal({.stamp = *tenant_stamp::parse(now_stamp), .ttl = 5min, .computed_at = 1'000'000'005us, .took = 250us},
           value_key, "new");
  CHECK(on.asks() == texts{"PEXPIRE " + stamp_name + ' ' + day + " GT", "MGET " + stamp_name,
                           "store " + all_keys + ' ' + on.lease() + ' ' + sealed + " 300000"});
  REQUIRE(on.store_answer(true) == step::answer);
  CHECK(on.trips == 3);
  CHECK(on.tested.source() == fetch_source::computed);
  CHECK(on.tested.stored());
  CHECK_FALSE(on.tested.fenced());
  CHECK(on.tested.computed_at() == std::optional<std::chrono::microseconds>{1'000'000'005us});
}

TEST_CASE("what is stored lives for its ttl and its stale life, and says which version and kind it is") {
  bench on{{.stale_for = 1h, .version = 4}};
  on.lead();
  on.tested.loaded({.absent = true, .ttl = 20h, .stale_for = 10h, .took = 1us});
  const std::string sealed = seal({.stamp = *tenant_stamp::parse(now_stamp),
                                   .stale = 10h,
                                   .ttl = 20h,
                                   .computed_at = 1'000'000'005us,
                                   .took = 1us,
                                   .version = 4,
                                   .absent = true},
                                  value_key, "");
  // The stamp lives twice as long as the value.
  CHECK(on.asks() == texts{"PEXPIRE " + stamp_name + " 216000000 GT", "MGET " + stamp_name,
                           "store " + all_keys + ' ' + on.lease() + ' ' + sealed + " 108000000"});
}

TEST_CASE("a value whose lease was gone is given to its caller and counts as fenced") {
  bench on;
  on.lead();
  on.tested.loaded(outcome());
  CHECK(on.store_answer(false) == step::answer);
  CHECK(on.tested.source() == fetch_source::computed);
  CHECK_FALSE(on.tested.stored());
  CHECK(on.tested.fenced());
}

TEST_CASE("a value is not said to be stored when its tenant or one of its tags was invalidated meanwhile") {
  for (const std::string& under : {stamp('x', '2', '3'), stamp('1', 'x', '3'), "no stamp"s}) {
    bench on;
    on.lead();
    on.tested.loaded(outcome());
    CHECK(on.store_answer(true, under) == step::answer);
    CHECK(on.tested.source() == fetch_source::computed);
    CHECK_FALSE(on.tested.stored());
    CHECK(on.tested.fenced());
  }
  for (const std::string& then : {tag_text('x', 'd'), tag_text('c', 'x'), ""s}) {
    bench on;
    on.lead();
    on.tested.loaded(outcome("new", {"a", "b"}));
    on.answer({list({text(now_stamp), text(tag_text('a', 'b')), text(tag_text('c', 'd'))})});
    on.store_answer(true, stamp('1', '2', 'x'), {tag_text('a', 'b'), then});
    CHECK_FALSE(on.tested.stored());
    CHECK(on.tested.fenced());
  }
  bench others;  // a tag that the value has not
  others.lead();
  others.tested.loaded(outcome());
  others.store_answer(true, stamp('1', '2', 'x'));
  CHECK(others.tested.stored());
}

TEST_CASE("a value that is not to be stored only ends its lease, without a marker") {
  bench on;
  on.lead();
  const std::string lease = on.lease();
  CHECK(on.tested.loaded({.storable = false}) == step::ask);
  CHECK(on.tested.ends_load());
  CHECK(on.asks() == texts{"release " + lease_key + ' ' + failed_key + ' ' + lease + ' ' + now_stamp + " 0"});
  CHECK_FALSE(on.tested.holds_lease());
  CHECK(on.answer({number(1)}) == step::answer);
  CHECK(on.tested.source() == fetch_source::computed);
  CHECK_FALSE(on.tested.stored());
  CHECK_FALSE(on.tested.fenced());
}

TEST_CASE("with tags named by the loader, all stamps are read at the end at once, which is one round trip more") {
  bench on;
  on.lead();
  REQUIRE(on.tested.loaded(outcome("new", {"property:42", "b"})) == step::ask);
  CHECK(on.tested.ends_load());
  const std::string names = stamp_name + ":tag:property%3A42 " + stamp_name + ":tag:b";
  CHECK(on.asks() == texts{"MGET " + stamp_name + ' ' + names});
  REQUIRE(on.answer({list({text(now_stamp), text(tag_text('a', 'b')), text(tag_text('c', 'd'))})}) == step::ask);
  const std::string sealed = seal({.stamp = *tenant_stamp::parse(now_stamp),
                                   .ttl = 5min,
                                   .computed_at = 1'000'000'005us,
                                   .took = 250us,
                                   .tags = {tagged("property:42", 'a', 'b'), tagged("b", 'c', 'd')}},
                                  value_key, "new");
  CHECK(on.asks() == texts{"PEXPIRE " + stamp_name + ' ' + day + " GT",
                           "PEXPIRE " + stamp_name + ":tag:property%3A42 " + day + " GT",
                           "PEXPIRE " + stamp_name + ":tag:b " + day + " GT", "MGET " + stamp_name + ' ' + names,
                           "store " + all_keys + ' ' + on.lease() + ' ' + sealed + " 300000"});
  CHECK(on.store_answer(true, now_stamp, {tag_text('a', 'b'), tag_text('c', 'd')}) == step::answer);
  CHECK(on.tested.stored());
  CHECK(on.trips == 4);
}

TEST_CASE("a value with tags is not stored when its tenant's stamp moved during the load, or is gone") {
  for (const reply& then :
       {text(stamp('x', '2', '3')), text(stamp('1', 'x', '3')), text(stamp('1', '2', 'x')), nil(), text("no stamp")}) {
    bench on;
    on.lead();
    const std::string lease = on.lease();
    on.tested.loaded(outcome("new", {"a"}));
    REQUIRE(on.answer({list({then, text(tag_text('a', 'b'))})}) == step::ask);
    CHECK(on.asks() == texts{"release " + lease_key + ' ' + failed_key + ' ' + lease + ' ' + now_stamp + " 0"});
    CHECK(on.answer({number(1)}) == step::answer);
    CHECK(on.tested.source() == fetch_source::computed);
    CHECK(on.tested.fenced());
    CHECK_FALSE(on.tested.stored());
  }
}

TEST_CASE("tags without a stamp get one, and all stamps are read again with it") {
  for (const reply& missing : {nil(), text("no stamp")}) {
    bench on;
    on.lead();
    on.tested.loaded(outcome("new", {"a", "b"}));
    REQUIRE(on.answer({list({text(now_stamp), missing, text(tag_text('c', 'd'))})}) == step::ask);
    const texts asked = on.asks();
    REQUIRE(asked.size() == 2);
    const std::string begin = "SET " + stamp_name + ":tag:a ";
    const std::string end = " NX PX " + day;
    REQUIRE(asked[0].size() == begin.size() + tag_stamp::size + end.size());
    CHECK(asked[0].starts_with(begin));
    CHECK(tag_stamp::parse(asked[0].substr(begin.size(), tag_stamp::size)));
    CHECK(asked[0].ends_with(end));
    CHECK(asked[1] == "MGET " + stamp_name + ' ' + stamp_name + ":tag:a " + stamp_name + ":tag:b");
    // Another one was first: its stamp counts.
    REQUIRE(on.answer({nil(), list({text(now_stamp), text(tag_text('e', 'f')), text(tag_text('c', 'd'))})}) ==
            step::ask);
    CHECK(on.asks().back().starts_with("store "));
    CHECK(on.asks().back().find(" a=" + tag_text('e', 'f') + " b=" + tag_text('c', 'd') + '\n') != std::string::npos);
  }
}

TEST_CASE("tags whose stamps vanish as fast as they are made end in a value that is not stored") {
  bench on;
  on.lead();
  step next = on.tested.loaded(outcome("new", {"a"}));
  next = on.answer({list({text(now_stamp), nil()})});
  int more = 0;
  while (on.asks().back().starts_with("MGET ")) {
    REQUIRE(++more < 10);
    next = on.answer({ok, list({text(now_stamp), nil()})});
  }
  CHECK(next == step::ask);
  CHECK(on.asks().front().starts_with("release "));
  CHECK(on.answer({number(1)}) == step::answer);
  CHECK_FALSE(on.tested.stored());
}
