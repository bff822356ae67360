// A fetch that does not go well: what cannot be read, loads that fail, and Redis that does not answer.

#include "machine_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

using namespace machine_test;

namespace {

constexpr fetch_rules keeps_stale{.stale_for = 1h, .failure_throttle = 1500ms};
const std::string old_copy = value("old", {.stale = 1h});
constexpr std::int64_t beyond_ttl = 1000;
constexpr std::int64_t within_ttl = 3'700'000;

const texts look{"GET " + value_key, "GET " + stamp_name};
const texts look_with_life{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name};

/// The end of a load that failed, and the second look.
texts failed_and(const std::string& lease, std::string_view throttle, const texts& then) {
  texts all{"release " + lease_key + ' ' + failed_key + ' ' + lease + ' ' + now_stamp + ' ' + std::string{throttle}};
  all.insert(all.end(), then.begin(), then.end());
  return all;
}

/// A fetch that holds the lease over a stale copy, and whose load failed.
void fail_over_stale_copy(bench& on) {
  on.begin();
  REQUIRE(on.answer({number(beyond_ttl), text(old_copy), text(now_stamp)}) == step::ask);
  REQUIRE(on.lead_from_here() == step::load);
  REQUIRE(on.tested.load_failed() == step::ask);
}

}  // namespace

TEST_CASE("what is no value of this cache is found out, and a miss") {
  std::string other_key = value("v");
  other_key.replace(other_key.find(" v "), 3, " V ");
  for (const std::string& bytes :
       {"{\"json\":1}"s, ""s, value("v").substr(0, 60), value("v") + 'x', other_key, value("v", {.version = 1})}) {
    bench on;
    on.begin();
    REQUIRE(on.answer({text(bytes), text(now_stamp)}) == step::ask);
    CHECK(on.tested.asks_for_lease());
    CHECK_FALSE(on.tested.has_candidate());
    CHECK(on.tested.take_findings().defect);
    CHECK_FALSE(on.tested.take_findings().defect);  // it is counted once
  }
}

TEST_CASE("the value of another version is a miss both ways") {
  bench newer{{.version = 2}};
  newer.begin();
  newer.answer({text(value("v", {.version = 1})), text(now_stamp)});
  CHECK(newer.tested.asks_for_lease());

  bench same{{.version = 2}};
  same.begin();
  CHECK(same.answer({text(value("v", {.version = 2})), text(now_stamp)}) == step::decode);
  CHECK_FALSE(same.tested.take_findings().defect);
}

TEST_CASE("a key of another type is a miss of its own kind, and Redis has answered") {
  for (const bool bare : {false, true}) {
    bench on{{.bare = bare}};
    on.begin();
    const step next = bare ? on.answer({wrong_type}) : on.answer({wrong_type, text(now_stamp)});
    CHECK(next == step::ask);
    CHECK(on.tested.asks_for_lease());
    CHECK_FALSE(on.tested.redis_failed());
    const auto found = on.tested.take_findings();
    CHECK(found.wrong_type);
    CHECK_FALSE(found.defect);
  }
}

TEST_CASE("an undecodable value is named when the lease is asked for, so that it is no hit again") {
  bench on;
  on.begin();
  const std::string bytes = value("not json");
  REQUIRE(on.answer({text(bytes), text(now_stamp)}) == step::decode);
  REQUIRE(on.tested.decoded(false) == step::ask);
  CHECK(on.asks() == texts{on.acquire("load", now_stamp, "0", bytes)});
  CHECK(on.lead_from_here() == step::load);
  CHECK(on.trips == 2);
}

TEST_CASE("an undecodable value that comes with the answer to the request for a lease is named in the next") {
  bench on;
  on.miss();
  const std::string bytes = value("not json");
  REQUIRE(on.answer({lease_hit(bytes, 300'000)}) == step::decode);
  CHECK(on.tested.payload() == "not json");
  REQUIRE(on.tested.decoded(false) == step::ask);
  CHECK(on.asks() == texts{on.acquire("load", now_stamp, "0", bytes)});

  bench other;
  other.miss();
  const std::string newer = value("v", {.version = 9});
  REQUIRE(other.answer({lease_hit(newer, 300'000)}) == step::ask);
  CHECK(other.asks() == texts{other.acquire("load", now_stamp, "0", newer)});
  CHECK(other.tested.take_findings().defect);
}

TEST_CASE("a failed load leaves a marker for the throttle's time, and the value is looked at once more") {
  bench on{keeps_stale};
  on.lead();
  const std::string lease = on.lease();
  REQUIRE(on.tested.load_failed() == step::ask);
  CHECK(on.asks() == failed_and(lease, "1500", look_with_life));
  CHECK_FALSE(on.tested.holds_lease());
  CHECK_FALSE(on.tested.ends_load());
  CHECK(on.answer({number(1), number(-2), nil(), text(now_stamp)}) == step::give_up);
  CHECK(on.tested.reason() == fetch_failure::loader);
  CHECK(on.tested.leads());
  CHECK(on.trips == 3);
}

TEST_CASE("after a failed load the stale copy is served") {
  bench on{keeps_stale};
  fail_over_stale_copy(on);
  REQUIRE(on.answer({number(1), number(beyond_ttl), text(old_copy), text(now_stamp)}) == step::decode);
  CHECK(on.tested.payload() == "old");
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::stale);
  CHECK(on.tested.computed_at() == std::optional<std::chrono::microseconds>{77s});
  CHECK_FALSE(on.tested.stored());
}

TEST_CASE("the stale copy that was there before a failed load is not served when the second look finds it dead") {
  struct row {
    const char* what;
    reply bytes;
    reply stamp;
  };
  for (const row& each :
       {row{"removed", nil(), text(now_stamp)}, row{"hard token", text(old_copy), text(stamp('x', '2', '3'))},
        row{"no stamp", text(old_copy), nil()}, row{"broken stamp", text(old_copy), text("x")},
        row{"another type", wrong_type, text(now_stamp)}, row{"defect", text("x"), text(now_stamp)}}) {
    bench on{keeps_stale};
    fail_over_stale_copy(on);
    INFO(each.what);
    CHECK(on.answer({number(1), number(beyond_ttl), each.bytes, each.stamp}) == step::give_up);
    CHECK(on.tested.reason() == fetch_failure::loader);
  }
}

TEST_CASE("a stale copy that was expired softly, by its tenant or in its time, is served when the load fails") {
  for (const std::int64_t life : {beyond_ttl, within_ttl}) {
    bench on{keeps_stale};
    fail_over_stale_copy(on);
    REQUIRE(on.answer({number(1), number(life), text(old_copy), text(stamp('1', 'x', 'x'))}) == step::decode);
    CHECK(on.tested.decoded(true) == step::answer);
    CHECK(on.tested.source() == fetch_source::stale);
  }
}

TEST_CASE("a fresh value that the second look finds is a value from Redis") {
  bench on{keeps_stale};
  fail_over_stale_copy(on);
  REQUIRE(on.answer({number(1), number(within_ttl), text(value("put meanwhile", {.stale = 1h})), text(now_stamp)}) ==
          step::decode);
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::redis);
}

TEST_CASE("the tags of a stale copy are looked at, and decide") {
  struct row {
    reply tag;
    bool served;
  };
  for (const row& each : {row{text(tag_text('a', 'b')), true}, row{text(tag_text('a', 'x')), true},
                          row{text(tag_text('x', 'b')), false}, row{nil(), false}}) {
    bench on{keeps_stale};
    fail_over_stale_copy(on);
    const std::string bytes =
        value("old", {.stamp = stamp('1', '2', 'x'), .stale = 1h, .tags = {tagged("a", 'a', 'b')}});
    REQUIRE(on.answer({number(1), number(beyond_ttl), text(bytes), text(now_stamp)}) == step::ask);
    CHECK(on.asks() == texts{"MGET " + stamp_name + ":tag:a"});
    CHECK(on.answer({list({each.tag})}) == (each.served ? step::decode : step::give_up));
    if (!each.served) continue;
    CHECK(on.tested.decoded(true) == step::answer);
    CHECK(on.tested.source() == fetch_source::stale);
  }
}

TEST_CASE("a stale copy that cannot be decoded is none") {
  bench on{keeps_stale};
  fail_over_stale_copy(on);
  on.answer({number(1), number(beyond_ttl), text(old_copy), text(now_stamp)});
  CHECK(on.tested.decoded(false) == step::give_up);
  CHECK(on.tested.reason() == fetch_failure::loader);
}

TEST_CASE("a cache without stale copies serves none when a load fails, whoever kept it") {
  bench on;
  on.begin();
  on.answer({text(old_copy), text(now_stamp)});
  on.answer({number(beyond_ttl), text(old_copy), text(now_stamp)});
  on.lead_from_here();
  REQUIRE(on.tested.load_failed() == step::ask);
  CHECK(on.asks().size() == 4);  // with the life
  CHECK(on.answer({number(1), number(beyond_ttl), text(old_copy), text(now_stamp)}) == step::give_up);
  CHECK(on.tested.reason() == fetch_failure::loader);

  bench soft;
  soft.lead();
  soft.tested.load_failed();
  CHECK(soft.answer({number(1), text(value("v")), text(stamp('1', 'x', '3'))}) == step::give_up);
}

TEST_CASE("who meets the marker gets the stale copy, and no load") {
  bench on{keeps_stale};
  on.begin();
  on.answer({number(beyond_ttl), text(old_copy), text(now_stamp)});
  REQUIRE(on.answer({marker(700)}) == step::ask);
  CHECK(on.asks() == look_with_life);
  REQUIRE(on.answer({number(beyond_ttl), text(old_copy), text(now_stamp)}) == step::decode);
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::stale);
  CHECK_FALSE(on.tested.leads());
  CHECK(on.trips == 3);
}

TEST_CASE("who meets the marker where there is no copy learns how much time is left") {
  bench on;
  on.miss();
  REQUIRE(on.answer({marker(700)}) == step::ask);
  CHECK(on.asks() == look);
  CHECK(on.answer({nil(), text(now_stamp)}) == step::give_up);
  CHECK(on.tested.reason() == fetch_failure::throttled);
  CHECK(on.tested.time_left() == 700ms);
  CHECK_FALSE(on.tested.redis_failed());
}

TEST_CASE("who meets the marker and cannot decode the copy, or cannot read it, has no value") {
  for (const bool answered : {true, false}) {
    bench on{keeps_stale};
    on.miss();
    on.answer({marker(700)});
    step next = step::give_up;
    if (answered) {
      REQUIRE(on.answer({number(beyond_ttl), text(old_copy), text(now_stamp)}) == step::decode);
      next = on.tested.decoded(false);
    } else {
      next = on.no_answer();
    }
    CHECK(next == step::give_up);
    CHECK(on.tested.reason() == fetch_failure::throttled);
    CHECK(on.tested.time_left() == 700ms);
  }
}

TEST_CASE("when Redis does not answer a read, one of the process loads, and nothing is stored") {
  const std::vector<stamped_tag> tags{tagged("a", 'a', 'b')};
  for (int at = 0; at < 4; ++at) {
    bench on;
    on.begin();
    if (at == 1) on.answer({text(value("v", {.stamp = stamp('1', '2', 'x'), .tags = tags})), text(now_stamp)});
    if (at >= 2) on.answer({nil(), text(now_stamp)});
    if (at == 3) on.answer({lease_busy("someone " + stamp('x', '2', '3'))});
    INFO("round trip " << at << " of value, tags, lease, stamp");
    REQUIRE(on.no_answer() == step::board);
    CHECK(on.tested.redis_failed());
    CHECK(on.tested.may_lead());
    CHECK(on.tested.identity() == "no redis");
    REQUIRE(on.board(boarding::leads) == step::load);
    const int trips = on.trips;
    CHECK(on.tested.loaded(outcome("new", {"a"})) == step::answer);
    CHECK(on.trips == trips);
    CHECK(on.tested.source() == fetch_source::computed);
    CHECK_FALSE(on.tested.stored());
    CHECK_FALSE(on.tested.fenced());
    REQUIRE(on.tested.failure());
    CHECK(on.tested.failure()->code() == tenantry::errc::timeout);
  }
}

TEST_CASE("when Redis is away and the load fails, that is the end, without another look") {
  bench on{keeps_stale};
  on.begin();
  on.no_answer();
  on.board(boarding::leads);
  CHECK(on.tested.load_failed() == step::give_up);
  CHECK(on.tested.reason() == fetch_failure::loader);
  CHECK(on.trips == 1);
}

TEST_CASE("when Redis is away, others wait for the load of their process") {
  bench on;
  on.begin();
  on.no_answer();
  REQUIRE(on.board(boarding::follows) == step::await_flight);
  CHECK(on.tested.wait_until() == on.now + on.rules.lease_wait);
  SECTION("and get its value") {
    CHECK(on.tested.flight_ended(true) == step::answer);
    CHECK(on.tested.source() == fetch_source::flight);
  }
  SECTION("or what its loader threw") {
    CHECK(on.tested.flight_ended(false) == step::give_up);
    CHECK(on.tested.reason() == fetch_failure::flight);
  }
  SECTION("or load for themselves when it takes too long") {
    CHECK(on.tested.waited() == step::load);
    CHECK_FALSE(on.tested.leads());
    CHECK(on.tested.loaded(outcome()) == step::answer);
  }
}

TEST_CASE("when Redis is away, who may not wait loads for itself") {
  bench on;
  on.begin();
  on.no_answer();
  CHECK(on.board(boarding::may_not_wait) == step::load);
  CHECK(on.tested.loaded(outcome()) == step::answer);
  CHECK_FALSE(on.tested.stored());
}

TEST_CASE("an error reply is no answer, but for a value of another type") {
  bench value_refused;
  value_refused.begin();
  CHECK(value_refused.answer({fault("LOADING Redis is loading"), text(now_stamp)}) == step::board);
  CHECK(value_refused.tested.redis_failed());
  REQUIRE(value_refused.tested.failure());
  CHECK(value_refused.tested.failure()->code() == tenantry::errc::not_ready);

  bench stamp_refused;  // a stamp of another type is no miss: no value could be told from a dead one
  stamp_refused.begin();
  CHECK(stamp_refused.answer({text(value("v")), wrong_type}) == step::board);
  CHECK(stamp_refused.tested.redis_failed());

  bench script_refused;
  script_refused.miss();
  CHECK(script_refused.answer({fault("NOPERM no")}) == step::board);
  CHECK(script_refused.tested.redis_failed());
  CHECK_FALSE(script_refused.tested.holds_lease());
  REQUIRE(script_refused.tested.failure());
  CHECK(script_refused.tested.failure()->code() == tenantry::errc::no_permission);
}

TEST_CASE("a loaded value is given to its caller when Redis does not answer at the end of the load") {
  for (const bool tagged_value : {false, true}) {
    for (const bool error_reply : {false, true}) {
      bench on;
      on.lead();
      on.tested.loaded(outcome("new", tagged_value ? texts{"a"} : texts{}));
      REQUIRE(on.tested.ends_load());
      const reply refused = fault("OOM command not allowed when used memory > 'maxmemory'.");
      const auto replies = tagged_value ? std::vector{refused} : std::vector{number(1), refused};
      CHECK((error_reply ? on.answer(replies) : on.no_answer()) == step::answer);
      CHECK(on.tested.source() == fetch_source::computed);
      CHECK_FALSE(on.tested.stored());
      CHECK_FALSE(on.tested.fenced());
      CHECK(on.tested.failure());
      CHECK_FALSE(on.tested.redis_failed());
      CHECK(on.tested.leads());
    }
  }
}

TEST_CASE("when Redis does not answer the second look, there is no value") {
  bench on{keeps_stale};
  fail_over_stale_copy(on);
  CHECK(on.no_answer() == step::give_up);
  CHECK(on.tested.reason() == fetch_failure::loader);

  bench tags{keeps_stale};
  fail_over_stale_copy(tags);
  const std::string bytes = value("old", {.stamp = stamp('1', '2', 'x'), .stale = 1h, .tags = {tagged("a", 'a', 'b')}});
  REQUIRE(tags.answer({number(1), number(beyond_ttl), text(bytes), text(now_stamp)}) == step::ask);
  CHECK(tags.no_answer() == step::give_up);
}
