// The lease of a load: who gets it, whose loads are waited for, and for how long.

#include "machine_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>

using namespace machine_test;

namespace {

const std::string theirs = "someoneelse " + now_stamp;
constexpr fetch_rules keeps_stale{.stale_for = 1h};
const std::string old_copy = value("old", {.stale = 1h});

/// Up to the wait for a lease of another process.
void wait_for_lease(bench& on, std::int64_t life = 60'000) {
  REQUIRE(on.miss() == step::ask);
  REQUIRE(on.answer({lease_busy(theirs, life)}) == step::board);
  REQUIRE(on.board(boarding::nobody) == step::await_wakeup);
}

}  // namespace

TEST_CASE("a value that came meanwhile is a hit in the step that would have given the lease") {
  bench on;
  on.miss();
  REQUIRE(on.answer({lease_hit(value("theirs"), 300'000)}) == step::decode);
  CHECK(on.tested.payload() == "theirs");
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::redis);
  CHECK(on.trips == 2);
  CHECK_FALSE(on.tested.holds_lease());
}

TEST_CASE("a lease under this fetch's stamps is waited for as the flight of this process that has it") {
  bench on;
  on.miss();
  REQUIRE(on.answer({lease_busy(theirs)}) == step::board);
  CHECK(on.tested.identity() == theirs);
  CHECK_FALSE(on.tested.may_lead());
  REQUIRE(on.board(boarding::follows) == step::await_flight);
  CHECK(on.tested.wait_until() == on.now + on.rules.lease_wait);
  CHECK(on.tested.flight_ended(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::flight);
  CHECK(on.trips == 2);
  CHECK_FALSE(on.tested.computed_at());
}

TEST_CASE("after a flight that failed the value is looked at once more, for a stale copy") {
  bench on{keeps_stale};
  on.miss();
  on.answer({lease_busy(theirs)});
  on.board(boarding::follows);
  REQUIRE(on.tested.flight_ended(false) == step::ask);
  CHECK(on.asks() == texts{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name});
  SECTION("which is served") {
    REQUIRE(on.answer({number(5), text(old_copy), text(now_stamp)}) == step::decode);
    CHECK(on.tested.decoded(true) == step::answer);
    CHECK(on.tested.source() == fetch_source::stale);
  }
  SECTION("and where there is none, the failure is the flight's") {
    CHECK(on.answer({number(-2), nil(), text(now_stamp)}) == step::give_up);
    CHECK(on.tested.reason() == fetch_failure::flight);
  }
}

TEST_CASE("a lease of another process is waited for until it may end or patience does") {
  bench on;
  wait_for_lease(on, 500);
  CHECK(on.tested.wakeup_channel() == lease_key);
  CHECK(on.tested.wait_until() == on.now + 501ms);

  bench longer;
  wait_for_lease(longer, 60'000);
  CHECK(longer.tested.wait_until() == longer.now + longer.rules.lease_wait);

  for (const std::int64_t none : {-1, -2}) {  // a lease that is gone, or has no end
    bench over;
    wait_for_lease(over, none);
    CHECK(over.tested.wait_until() == over.now + 1ms);
  }
}

TEST_CASE("who is woken looks and asks for the lease again, and patience goes on from the first time") {
  bench on;
  wait_for_lease(on);
  on.now += 1500ms;
  REQUIRE(on.wake() == step::ask);
  CHECK(on.asks() == texts{on.acquire()});
  SECTION("a value is there") {
    REQUIRE(on.answer({lease_hit(value("theirs"), 300'000)}) == step::decode);
    CHECK(on.tested.decoded(true) == step::answer);
  }
  SECTION("another has the lease") {
    REQUIRE(on.answer({lease_busy("a third one " + now_stamp, 60'000)}) == step::board);
    CHECK(on.tested.identity() == "a third one " + now_stamp);
    REQUIRE(on.board(boarding::nobody) == step::await_wakeup);
    CHECK(on.tested.wait_until() == on.now + 500ms);
  }
  SECTION("another flight of this process has the lease") {
    on.answer({lease_busy("a third one " + now_stamp, 60'000)});
    REQUIRE(on.board(boarding::follows) == step::await_flight);
    CHECK(on.tested.wait_until() == on.now + 500ms);
  }
  SECTION("the lease is free") {
    CHECK(on.lead_from_here() == step::load);
    on.tested.loaded(outcome());
    on.store_answer(true);
    CHECK(on.tested.stored());
  }
  SECTION("the load failed") {
    REQUIRE(on.answer({marker(10)}) == step::ask);
    CHECK(on.answer({nil(), text(now_stamp)}) == step::give_up);
    CHECK(on.tested.reason() == fetch_failure::throttled);
  }
}

TEST_CASE("when the wait is over the value is looked at again, and else loaded without being stored") {
  for (const bool in_process : {true, false}) {
    bench on{keeps_stale};
    on.miss();
    on.answer({lease_busy(theirs, 60'000)});
    on.board(in_process ? boarding::follows : boarding::nobody);
    on.now += on.rules.lease_wait;
    REQUIRE((in_process ? on.tested.waited() : on.tested.woken(on.now)) == step::ask);
    CHECK(on.asks() == texts{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name});

    SECTION("stale copy" + std::to_string(in_process)) {
      REQUIRE(on.answer({number(5), text(old_copy), text(now_stamp)}) == step::decode);
      CHECK(on.tested.decoded(true) == step::answer);
      CHECK(on.tested.source() == fetch_source::stale);
    }
    SECTION("undecodable stale copy" + std::to_string(in_process)) {
      on.answer({number(5), text(old_copy), text(now_stamp)});
      CHECK(on.tested.decoded(false) == step::board);
    }
    SECTION("dead copy" + std::to_string(in_process)) {
      CHECK(on.answer({number(5), text(old_copy), text(stamp('x', '2', '3'))}) == step::board);
    }
    SECTION("Redis is away by now" + std::to_string(in_process)) { CHECK(on.no_answer() == step::board); }
    SECTION("no copy, while another of this process loads for those who waited" + std::to_string(in_process)) {
      on.answer({number(-2), nil(), text(now_stamp)});
      REQUIRE(on.board(boarding::follows) == step::await_flight);
      CHECK(on.tested.wait_until() == on.now + on.rules.lease_wait);
      CHECK(on.tested.waited() == step::load);
    }
    SECTION("no copy" + std::to_string(in_process)) {
      REQUIRE(on.answer({number(-2), nil(), text(now_stamp)}) == step::board);
      CHECK(on.tested.identity() == "late " + theirs);
      CHECK(on.tested.may_lead());
      REQUIRE(on.board(boarding::leads) == step::load);
      CHECK_FALSE(on.tested.holds_lease());
      const int trips = on.trips;
      CHECK(on.tested.loaded(outcome("new", {"a"})) == step::answer);
      CHECK(on.trips == trips);
      CHECK(on.tested.source() == fetch_source::computed);
      CHECK_FALSE(on.tested.stored());
      CHECK_FALSE(on.tested.fenced());
      CHECK_FALSE(on.tested.computed_at());
    }
  }
}

TEST_CASE("a load after the wait that fails leaves no marker, and ends after one more look") {
  bench on;
  wait_for_lease(on);
  on.now += on.rules.lease_wait;
  on.tested.woken(on.now);
  on.answer({nil(), text(now_stamp)});
  REQUIRE(on.tested.load_failed() == step::ask);
  CHECK(on.asks() == texts{"GET " + value_key, "GET " + stamp_name});
  CHECK(on.answer({nil(), text(now_stamp)}) == step::give_up);
  CHECK(on.tested.reason() == fetch_failure::loader);
}

TEST_CASE("without patience a busy lease is not waited for") {
  bench on{{.lease_wait = 0ms}};
  on.miss();
  on.answer({lease_busy(theirs)});
  CHECK(on.board(boarding::nobody) == step::ask);
  CHECK(on.asks() == texts{"GET " + value_key, "GET " + stamp_name});
}

TEST_CASE("a fetch inside of a loader does not wait for another process, nor for a flight in a circle") {
  bench nested{{}, false};
  nested.miss();
  nested.answer({lease_busy(theirs)});
  CHECK(nested.board(boarding::nobody) == step::load);
  CHECK(nested.tested.loaded(outcome()) == step::answer);
  CHECK_FALSE(nested.tested.stored());
  CHECK(nested.trips == 2);

  for (const bool may_wait : {true, false}) {
    bench circle{{}, may_wait};
    circle.miss();
    circle.answer({lease_busy(theirs)});
    CHECK(circle.board(boarding::may_not_wait) == step::load);
    CHECK(circle.tested.loaded(outcome()) == step::answer);
    CHECK_FALSE(circle.tested.stored());
  }

  bench free{{}, false};  // where nobody is waited for, it is as any other
  CHECK(free.lead() == step::load);
  free.tested.loaded(outcome());
  free.store_answer(true);
  CHECK(free.tested.stored());
}

TEST_CASE("a lease under other stamps is taken over once the tenant's stamp is known to be this fetch's") {
  for (const std::string& other : {stamp('x', '2', '3'), stamp('1', 'x', '3'), stamp('1', '2', 'x')}) {
    bench on;
    on.miss();
    REQUIRE(on.answer({lease_busy("someone " + other)}) == step::ask);
    CHECK(on.asks() == texts{"GET " + stamp_name});
    CHECK_FALSE(on.tested.asks_for_lease());
    REQUIRE(on.answer({text(now_stamp)}) == step::ask);
    CHECK(on.asks() == texts{on.acquire("takeover")});
    CHECK(on.lead_from_here() == step::load);
    CHECK(on.trips == 4);
  }
}

TEST_CASE("a lease under other stamps is left alone when it is this fetch's that moved, and all begins anew") {
  for (const reply& then : {text(stamp('x', '2', '3')), nil()}) {
    bench on;
    on.miss();
    on.answer({lease_busy("someone " + stamp('x', '2', '3'))});
    REQUIRE(on.answer({then}) == step::ask);
    CHECK(on.asks() == texts{"GET " + value_key, "GET " + stamp_name});
    CHECK(on.tested.still_looking());
    // Under the new stamps that lease is one to wait for.
    on.answer({nil(), text(stamp('x', '2', '3'))});
    CHECK(on.asks() == texts{on.acquire("load", stamp('x', '2', '3'))});
    REQUIRE(on.answer({lease_busy("someone " + stamp('x', '2', '3'))}) == step::board);
    CHECK(on.tested.identity() == "someone " + stamp('x', '2', '3'));
  }
}

TEST_CASE("a takeover is asked for once: who meets a lease under the same stamps then waits for it") {
  bench on;
  on.miss();
  on.answer({lease_busy("someone " + stamp('x', '2', '3'))});
  on.answer({text(now_stamp)});
  REQUIRE(on.answer({lease_busy(theirs)}) == step::board);
  CHECK(on.tested.identity() == theirs);
  REQUIRE(on.board(boarding::nobody) == step::await_wakeup);
  on.wake();
  CHECK(on.asks() == texts{on.acquire("load")});
}

TEST_CASE("while a hold is on one caller loads at a time, and what it loads is not stored, also not after the hold") {
  bench on;
  on.miss();
  REQUIRE(on.answer({held_lease()}) == step::board);
  CHECK(on.tested.identity() == on.lease());
  REQUIRE(on.board(boarding::leads) == step::load);
  REQUIRE(on.tested.loaded(outcome("new", {"a"})) == step::ask);
  CHECK(on.asks() == texts{"release " + lease_key + ' ' + failed_key + ' ' + on.lease() + ' ' + now_stamp + " 0"});
  CHECK(on.answer({number(1)}) == step::answer);
  CHECK_FALSE(on.tested.stored());
  CHECK(on.tested.fenced());
}

TEST_CASE("while a hold is on nobody waits for the load of another process, which is not going to be stored") {
  bench on;
  on.miss();
  REQUIRE(on.answer({held_busy(theirs)}) == step::board);
  CHECK_FALSE(on.tested.may_lead());
  SECTION("in another process") {
    REQUIRE(on.board(boarding::nobody) == step::load);
    CHECK(on.tested.loaded(outcome()) == step::answer);
    CHECK(on.trips == 2);
  }
  SECTION("in this process") {
    REQUIRE(on.board(boarding::follows) == step::await_flight);
    CHECK(on.tested.wait_until() == on.now + on.rules.lease_wait);
    CHECK(on.tested.flight_ended(true) == step::answer);
  }
}

TEST_CASE("what was read of one value's tags says nothing about the next value") {
  bench on;
  on.begin();
  on.answer({text(value("v", {.stamp = stamp('1', '2', 'x'), .tags = {tagged("a", 'a', 'b')}})), text(now_stamp)});
  REQUIRE(on.answer({list({text(tag_text('a', 'x'))})}) == step::ask);  // expired softly
  on.answer({lease_busy(theirs, 60'000)});
  on.board(boarding::nobody);
  on.now += on.rules.lease_wait;
  REQUIRE(on.tested.woken(on.now) == step::ask);
  REQUIRE(on.answer({text(value("newer", {.tags = {tagged("a", 'a', 'x')}})), text(now_stamp)}) == step::decode);
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::redis);
}
