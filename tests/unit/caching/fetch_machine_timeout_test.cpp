// The limits of a wait: how long a fetch waits for a load, and what it ends with when that is over.

#include "waiting.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace machine_test;

TEST_CASE("when the soft timeout is over the value is read again, and the copy is served as stale") {
  for (const kind what : all_kinds) {
    for (const std::string& then : {now_stamp, stamp('1', 'x', 'x')}) {
      waiter on{what, true, both};
      INFO(name_of(what) << ", " << then);
      CHECK(on.until() == 100ms);
      const int trips = on.trips;
      REQUIRE(on.wait() == step::ask);
      CHECK_FALSE(on.tested.asks_for_lease());
      check_served(on, {number(beyond_ttl), text(other_copy), text(then)}, fetch_source::stale);
      CHECK(on.trips == trips + 1);
    }
    waiter soft_before_its_time{what, true, both};
    soft_before_its_time.wait();
    check_served(soft_before_its_time, {number(within_ttl), text(other_copy), text(stamp('1', 'x', '3'))},
                 fetch_source::stale);

    waiter tags{what, true, both};
    tags.wait();
    REQUIRE(tags.answer(looked(text(tagged_copy))) == step::ask);
    REQUIRE(tags.answer({list({text(tag_text('a', 'x'))})}) == step::decode);
    CHECK(tags.tested.decoded(true) == step::answer);
    CHECK(tags.tested.source() == fetch_source::stale);
  }
}

TEST_CASE("a fresh value that is there when a timeout is over is one from Redis, also when it is due for a refresh") {
  for (const kind what : all_kinds) {
    for (const bool soft : {true, false}) {
      fetch_rules rules = soft ? both : limited({}, 1s);
      rules.refresh_ahead = 0.75;
      waiter on{what, true, rules};
      INFO(name_of(what) << (soft ? ", soft" : ", hard"));
      REQUIRE(on.wait() == step::ask);
      check_served(on, looked(text(other_copy), 3'600'001), fetch_source::redis);
    }
  }
}

TEST_CASE("when there is nothing to serve at the soft timeout the fetch waits on, and that timeout is over for good") {
  for (const kind what : all_kinds) {
    for (const vain_look& each : vain_looks()) {
      waiter on{what, true, both};
      INFO(name_of(what) << ", " << each.what);
      REQUIRE(on.wait() == step::ask);
      step next = answer_in_vain(on, each);
      if (what == kind::lease) {  // which may be free by now
        REQUIRE(next == step::ask);
        CHECK(on.asks() == look_with_life);
        CHECK(on.tested.still_looking());
        REQUIRE(on.answer(looked(text(old_copy))) == step::ask);
        REQUIRE(on.tested.asks_for_lease());
        on.wait_again(60'000);
        next = on.waiting();
      }
      REQUIRE(next == on.waiting());
      CHECK(on.until() == 1s);
      REQUIRE(on.wait() == step::ask);
      check_given_up(on, answer_in_vain(on, each), fetch_failure::timeout);
    }
  }
}

TEST_CASE("after the soft timeout in vain the flight may end, and the lease may be free") {
  for (const kind what : {kind::flight, kind::own}) {
    for (const vain_look& each : vain_looks()) {
      waiter on{what, true, both};
      INFO(name_of(what) << ", " << each.what);
      on.wait();
      REQUIRE(answer_in_vain(on, each) == step::await_flight);
      CHECK(on.tested.flight_ended(true) == step::answer);
      CHECK(on.tested.source() == fetch_source::flight);
    }
  }
  waiter on{kind::lease, true, both};
  on.wait();
  REQUIRE(answer_in_vain(on, nothing_there) == step::ask);
  REQUIRE(on.answer(looked(text(old_copy))) == step::ask);
  REQUIRE(on.lead_from_here() == step::load);
  on.tested.loaded(outcome());
  CHECK(on.store_answer(true) == step::answer);
  CHECK(on.tested.stored());
}

TEST_CASE("after the soft timeout in vain who then leads and whose load fails ends with what its loader threw") {
  for (const vain_look& each : vain_looks()) {
    INFO(each.what);
    waiter on{kind::lease, true, both};
    on.wait();
    REQUIRE(answer_in_vain(on, nothing_there) == step::ask);
    on.answer(looked(text(old_copy)));
    REQUIRE(on.lead_from_here() == step::load);
    REQUIRE(on.tested.load_failed() == step::ask);
    REQUIRE(on.asks().size() == 4);
    if (each.replies.empty()) {
      check_given_up(on, on.no_answer(), fetch_failure::loader);
    } else if (!each.decodes && !each.then_silent && each.then == nullptr) {
      std::vector<reply> replies{number(1)};
      replies.insert(replies.end(), each.replies.begin(), each.replies.end());
      check_given_up(on, on.answer(replies), fetch_failure::loader);
    }
  }
}

TEST_CASE("after the soft timeout in vain lease_wait ends the wait, where it comes before the hard timeout") {
  for (const kind what : {kind::flight, kind::lease}) {
    for (const limit hard : {limit{}, limit{3s}}) {
      waiter on{what, true, limited(100ms, hard, 2s)};
      INFO(name_of(what));
      on.wait();
      const step next = answer_in_vain(on, nothing_there);
      if (what == kind::lease) {
        REQUIRE(next == step::ask);
        on.answer(looked(nil(), -2));
        on.wait_again(60'000);
      }
      CHECK(on.until() == 2s);
      REQUIRE(on.wait() == step::ask);
      REQUIRE(answer_in_vain(on, nothing_there) == step::board);
      CHECK(on.tested.identity() == "late " + theirs);
      REQUIRE(on.board(boarding::leads) == step::load);
      CHECK(on.tested.loaded(outcome()) == step::answer);
      CHECK_FALSE(on.tested.stored());
    }
  }
}

TEST_CASE("after the soft timeout in vain the failure of another's load and an undecodable value are what they were") {
  waiter failed{kind::lease, true, both};
  failed.wait();
  REQUIRE(answer_in_vain(failed, nothing_there) == step::ask);
  failed.answer(looked(nil(), -2));
  REQUIRE(failed.answer({marker(700)}) == step::ask);
  check_given_up(failed, answer_in_vain(failed, nothing_there), fetch_failure::throttled);
  CHECK(failed.tested.time_left() == 700ms);

  waiter undecodable{kind::lease, true, both};
  undecodable.wait();
  REQUIRE(answer_in_vain(undecodable, nothing_there) == step::ask);
  REQUIRE(undecodable.answer(looked(text(other_copy), within_ttl)) == step::decode);
  REQUIRE(undecodable.tested.decoded(false) == step::ask);
  CHECK(undecodable.asks() == texts{undecodable.acquire("load", now_stamp, "0", other_copy)});
}

TEST_CASE("after the soft timeout in vain no other wait of the same fetch has one") {
  waiter on{kind::lease, true, both};
  on.wait();
  REQUIRE(answer_in_vain(on, nothing_there) == step::ask);
  on.answer(looked(text(old_copy)));
  on.wait_again(200);
  CHECK(on.until() == 301ms);
  REQUIRE(on.wait() == step::ask);  // its holder may have died
  CHECK(on.tested.still_looking());
  on.answer(looked(text(old_copy)));
  REQUIRE(on.answer({lease_busy("a third " + now_stamp, 60'000)}) == step::board);
  REQUIRE(on.board(boarding::follows) == step::await_flight);
  CHECK(on.until() == 1s);
}

TEST_CASE("without a copy at hand there is no soft timeout") {
  for (const kind what : all_kinds) {
    INFO(name_of(what));
    CHECK(waiter{what, false, both}.until() == 1s);
    if (what == kind::own) {
      CHECK(waiter{what, false, limited(100ms, {})}.tested.wait_until() == time_point::max());
      continue;
    }
    CHECK(waiter{what, false, limited(100ms, {})}.until() == 5s);
    // What others keep is not this cache's to serve.
    CHECK(waiter{what, true, limited(100ms, 1s, 5s, 0ms)}.until() == 1s);
  }
  bench dead{both};
  dead.begin();
  dead.answer({number(beyond_ttl), text(old_copy), text(stamp('x', '2', '3'))});
  dead.answer({lease_busy("someone " + stamp('x', '2', '3'), 60'000)});
  dead.board(boarding::follows);
  CHECK(dead.tested.wait_until() == dead.now + 1s);
}

TEST_CASE("a copy that is found in a later look has the soft timeout, from the first wait") {
  waiter on{kind::lease, false, both};
  on.now += 60ms;
  REQUIRE(on.tested.woken(on.now) == step::ask);
  on.answer(looked(text(old_copy)));
  on.wait_again(60'000);
  CHECK(on.until() == 100ms);
  REQUIRE(on.wait() == step::ask);
  check_served(on, looked(text(other_copy)), fetch_source::stale);

  waiter late{kind::lease, false, both};
  late.now += 160ms;
  late.tested.woken(late.now);
  late.answer(looked(text(old_copy)));
  late.answer({lease_busy(theirs, 60'000)});
  step next = late.board(boarding::nobody);
  if (next == step::await_wakeup) {
    CHECK(late.tested.wait_until() <= late.now);
    next = late.tested.woken(late.now);
  }
  REQUIRE(next == step::ask);
  check_served(late, looked(text(other_copy)), fetch_source::stale);
}

TEST_CASE("when the hard timeout is over a copy is served if there is one at a second look, and else nothing") {
  for (const kind what : all_kinds) {
    for (const bool copy : {true, false}) {
      INFO(name_of(what) << (copy ? " over a copy" : ""));
      waiter on{what, copy, limited({}, 1s)};
      CHECK(on.until() == 1s);
      REQUIRE(on.wait() == step::ask);
      CHECK_FALSE(on.tested.asks_for_lease());
      check_served(on, looked(text(other_copy)), fetch_source::stale);

      for (const vain_look& each : vain_looks()) {
        INFO(each.what);
        waiter vain{what, copy, limited({}, 1s)};
        REQUIRE(vain.wait() == step::ask);
        check_given_up(vain, answer_in_vain(vain, each), fetch_failure::timeout);
        CHECK_FALSE(vain.tested.stored());
      }
    }
    waiter first{what, true, limited(2s, 1s)};  // before the soft one
    CHECK(first.until() == 1s);
    first.wait();
    check_given_up(first, answer_in_vain(first, nothing_there), fetch_failure::timeout);
  }
}

TEST_CASE("a cache without stale copies has no value when the hard timeout is over or the flight failed") {
  for (const kind what : all_kinds) {
    waiter on{what, false, limited({}, 1s, 5s, 0ms)};
    INFO(name_of(what));
    CHECK(on.until() == 1s);
    const int trips = on.trips;
    check_given_up(on, on.wait(), fetch_failure::timeout);
    CHECK(on.trips == trips);
    if (what == kind::lease) continue;

    waiter failed{what, false, limited({}, 1s, 5s, 0ms)};
    REQUIRE(failed.tested.flight_ended(false) == step::ask);
    const step next = failed.answer({text(old_copy), text(now_stamp)});
    REQUIRE(next == step::ask);  // whose copy is it?
    check_given_up(failed, failed.answer(looked(text(old_copy))), fetch_failure::flight);
  }
}

TEST_CASE("where Redis has failed the hard timeout ends the fetch at once") {
  for (const bool copy : {true, false}) {
    bench own{limited({}, 1s)};
    REQUIRE(own.tested.begin_following(copy, true, own.now) == step::await_flight);
    CHECK(own.tested.wait_until() == own.now + 1s);
    check_given_up(own, own.tested.waited(), fetch_failure::timeout);
    CHECK(own.trips == 0);

    bench on{limited({}, 1s)};
    on.begin();
    on.answer(copy ? looked(text(old_copy)) : looked(nil(), -2));
    REQUIRE(on.no_answer() == step::board);
    REQUIRE(on.board(boarding::follows) == step::await_flight);
    CHECK(on.tested.wait_until() == on.now + 1s);
    check_given_up(on, on.tested.waited(), fetch_failure::timeout);
    CHECK(on.trips == 2);
  }
}

TEST_CASE("where Redis has failed the soft timeout serves nothing, and the wait goes on to the hard one") {
  for (const bool own : {true, false}) {
    bench on{both};
    const time_point start = on.now;
    step next = step::ask;
    if (own) {
      next = on.tested.begin_following(true, true, on.now);
    } else {
      on.begin();
      on.answer(looked(text(old_copy)));
      on.no_answer();
      next = on.board(boarding::follows);
    }
    for (int steps = 0; on.tested.wait_until() < start + 1s && steps < 4; ++steps) {
      REQUIRE(next == step::await_flight);
      on.now = on.tested.wait_until();
      next = on.tested.waited();
      if (next == step::ask) next = on.no_answer();
    }
    REQUIRE(next == step::await_flight);
    CHECK(on.tested.wait_until() == start + 1s);
    check_given_up(on, on.tested.waited(), fetch_failure::timeout);
  }
}
