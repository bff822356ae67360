// Which limit of a wait comes first, from when they count, and what a flight that ends without a value leaves.

#include "support/random_bytes.hpp"
#include "waiting.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace machine_test;

TEST_CASE("a wait ends at the first of its limits") {
  struct row {
    milliseconds lease_wait;
    limit soft;
    limit hard;
    std::int64_t lease;
    milliseconds flight_until;
    milliseconds lease_until;
    limit own_until;  // nothing: when it ends
  };
  for (const row& each :
       {row{1s, 2s, 3s, 4000, 1s, 1s, 2s}, row{2s, 1s, 3s, 4000, 1s, 1s, 1s}, row{3s, 2s, 1s, 4000, 1s, 1s, 1s},
        row{3s, {}, 2s, 4000, 2s, 2s, 2s}, row{2s, {}, {}, 4000, 2s, 2s, {}}, row{2s, 3s, {}, 4000, 2s, 2s, 3s},
        row{4s, 3s, 2s, 1000, 2s, 1001ms, 2s}, row{4s, 3s, {}, 1000, 3s, 1001ms, 3s}}) {
    const fetch_rules rules = limited(each.soft, each.hard, each.lease_wait);
    INFO(each.lease_wait.count() << ' ' << each.soft.value_or(0s).count() << ' ' << each.hard.value_or(0s).count());
    CHECK(waiter{kind::flight, true, rules, each.lease}.until() == each.flight_until);
    CHECK(waiter{kind::lease, true, rules, each.lease}.until() == each.lease_until);
    const waiter own{kind::own, true, rules};
    if (each.own_until) {
      CHECK(own.until() == *each.own_until);
    } else {
      CHECK(own.tested.wait_until() == time_point::max());
    }
  }
}

TEST_CASE("who wakes at the end of another's lease looks and asks again, and all limits count from the first wait") {
  waiter on{kind::lease, true, limited(900ms, 2s), 399};
  for (int i = 1; i <= 2; ++i) {
    CHECK(on.until() == 400ms * i);
    REQUIRE(on.wait() == step::ask);
    CHECK(on.tested.still_looking());
    REQUIRE(on.answer(looked(text(old_copy))) == step::ask);
    CHECK(on.asks() == texts{on.acquire()});
    on.wait_again(399);
  }
  CHECK(on.until() == 900ms);
  REQUIRE(on.wait() == step::ask);
  CHECK(answer_in_vain(on, nothing_there) == step::ask);
  on.answer(looked(nil(), -2));
  on.wait_again(60'000);
  CHECK(on.until() == 2s);
}

TEST_CASE("a message in between moves no limit, nor does a flight that is found after it") {
  for (const bool found : {true, false}) {
    waiter on{kind::lease, true, both};
    on.now += 30ms;
    REQUIRE(on.tested.woken(on.now) == step::ask);
    CHECK(on.tested.still_looking());
    on.answer(looked(text(old_copy)));
    if (found) on.waits_for = kind::flight;
    on.wait_again(60'000);
    CHECK(on.until() == 100ms);
    on.wait();
    REQUIRE(answer_in_vain(on, nothing_there) == (found ? step::await_flight : step::ask));
    if (!found) {
      on.now += 50ms;
      on.answer(looked(nil(), -2));
      on.wait_again(60'000);
    }
    CHECK(on.until() == 1s);
  }
}

TEST_CASE("limits that passed while Redis was asked end the fetch without another wait") {
  for (const bool flight : {true, false}) {
    waiter on{kind::lease, false, limited({}, 1s)};
    on.now += 900ms;
    on.tested.woken(on.now);
    on.answer(looked(nil(), -2));
    on.now += 200ms;
    on.answer({lease_busy(theirs, 60'000)});
    step next = on.board(flight ? boarding::follows : boarding::nobody);
    if (next != step::ask) {
      CHECK(on.tested.wait_until() <= on.now);
      next = flight ? on.tested.waited() : on.tested.woken(on.now);
    }
    REQUIRE(next == step::ask);
    check_given_up(on, answer_in_vain(on, nothing_there), fetch_failure::timeout);
  }
}

TEST_CASE("where lease_wait is over before the timeouts, a copy is served, or the value loaded without being stored") {
  for (const kind what : {kind::flight, kind::lease}) {
    INFO(name_of(what));
    const fetch_rules rules = limited(3s, 4s, 2s);
    waiter on{what, true, rules};
    CHECK(on.until() == 2s);
    REQUIRE(on.wait() == step::ask);
    CHECK_FALSE(on.tested.asks_for_lease());
    check_served(on, looked(text(other_copy)), fetch_source::stale);

    for (const vain_look& each : vain_looks()) {
      INFO(each.what);
      waiter vain{what, true, rules};
      vain.wait();
      REQUIRE(answer_in_vain(vain, each) == step::board);
      CHECK(vain.tested.identity() == "late " + theirs);
      REQUIRE(vain.board(boarding::leads) == step::load);
      const int trips = vain.trips;
      CHECK(vain.tested.loaded(outcome()) == step::answer);
      CHECK(vain.trips == trips);
      CHECK(vain.tested.source() == fetch_source::computed);
      CHECK_FALSE(vain.tested.stored());
    }
  }
}

TEST_CASE("a second wait after lease_wait, for others who load late, has the hard timeout of the first") {
  for (const milliseconds hard : {3s, 10s}) {
    waiter on{kind::lease, false, limited({}, hard, 2s)};
    on.wait();
    REQUIRE(answer_in_vain(on, nothing_there) == step::board);
    REQUIRE(on.board(boarding::follows) == step::await_flight);
    CHECK(on.until() == std::min<milliseconds>(hard, 4s));
    on.now = on.tested.wait_until();
    if (hard == 10s) {
      CHECK(on.tested.waited() == step::load);
      continue;
    }
    REQUIRE(on.tested.waited() == step::ask);
    check_given_up(on, answer_in_vain(on, nothing_there), fetch_failure::timeout);
  }
}

TEST_CASE("where Redis has failed and lease_wait is over before the timeouts, a fetch loads for itself") {
  bench on{limited(3s, 4s, 2s)};
  on.begin();
  on.no_answer();
  REQUIRE(on.board(boarding::follows) == step::await_flight);
  CHECK(on.tested.wait_until() == on.now + 2s);
  CHECK(on.tested.waited() == step::load);
  CHECK(on.tested.loaded(outcome()) == step::answer);
  CHECK(on.trips == 1);
}

TEST_CASE("after a flight without a value the copy is served if there is one at a second look") {
  for (const bool in_vain : {false, true}) {  // the soft timeout before it
    for (const kind what : {kind::flight, kind::own}) {
      INFO(name_of(what) << (in_vain ? ", after the soft timeout" : ""));
      const auto fails = [&](waiter& on) {
        if (in_vain) {
          on.wait();
          REQUIRE(answer_in_vain(on, nothing_there) == step::await_flight);
        }
        REQUIRE(on.tested.flight_ended(false) == step::ask);
      };
      waiter on{what, true, both};
      fails(on);
      check_served(on, looked(text(other_copy)), fetch_source::stale);
      waiter fresh{what, true, both};
      fails(fresh);
      check_served(fresh, looked(text(other_copy), within_ttl), fetch_source::redis);
      for (const vain_look& each : vain_looks()) {
        INFO(each.what);
        waiter vain{what, true, both};
        fails(vain);
        check_given_up(vain, answer_in_vain(vain, each), fetch_failure::flight);
      }
    }
  }
}

TEST_CASE("after a flight without a value, where Redis has failed, there is no second look") {
  for (const bool copy : {true, false}) {
    bench own{both};
    REQUIRE(own.tested.begin_following(copy, true, own.now) == step::await_flight);
    check_given_up(own, own.tested.flight_ended(false), fetch_failure::flight);
    CHECK(own.trips == 0);

    bench on{both};
    on.begin();
    on.answer(copy ? looked(text(old_copy)) : looked(nil(), -2));
    on.no_answer();
    REQUIRE(on.board(boarding::follows) == step::await_flight);
    check_given_up(on, on.tested.flight_ended(false), fetch_failure::flight);
    CHECK(on.trips == 2);
  }
}

TEST_CASE("who waits for its own load without limits waits to its end") {
  bench on;
  REQUIRE(on.tested.begin_following(false, false, on.now) == step::await_flight);
  CHECK(on.tested.wait_until() == time_point::max());
  CHECK_FALSE(on.tested.holds_lease());
  CHECK_FALSE(on.tested.leads());
  CHECK(on.tested.flight_ended(true) == step::answer);
  CHECK(on.tested.source() == fetch_source::flight);
  CHECK(on.trips == 0);
}

TEST_CASE("whatever happens meanwhile, no fetch waits beyond its limits, and each ends") {
  support::random_bytes random;
  int served = 0;
  int timeouts = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto some = [&](std::size_t most) { return milliseconds{1 + static_cast<std::int64_t>(random.below(most))}; };
    const auto maybe = [&](std::size_t most) { return random.below(3) == 0 ? limit{} : limit{some(most)}; };
    const fetch_rules rules = limited(maybe(300), maybe(1000), some(1000), random.below(4) == 0 ? 0ms : 1h);
    bench on{rules};
    const auto copies = [&] { return random.below(2) == 0 ? text(old_copy) : nil(); };
    std::optional<time_point> first_wait;
    bool servable = false;  // in the look before this
    bool late = false;      // it has begun to wait for those who load late
    step next = on.begin();
    if (random.below(3) == 0) {
      first_wait = on.now;
      next = on.tested.begin_following(random.below(2) == 0, random.below(2) == 0, on.now);
    }
    const bool own = first_wait.has_value();
    int steps = 0;
    for (; next != step::answer && next != step::give_up && next != step::load; ++steps) {
      REQUIRE(steps < 2000);
      if (next == step::board) {
        late = late || on.tested.identity().starts_with("late");
        next = on.board(random.below(2) == 0   ? boarding::follows
                        : on.tested.may_lead() ? boarding::leads
                                               : boarding::nobody);
      } else if (next == step::decode) {
        next = on.tested.decoded(servable);
      } else if (next == step::ask) {
        on.now += milliseconds{random.below(20)};
        if (random.below(10) == 0) {
          servable = false;
          next = on.no_answer();
        } else if (on.tested.asks_for_lease()) {
          next = on.answer({lease_busy(theirs, static_cast<std::int64_t>(random.below(400)))});
        } else {
          const reply bytes = copies();
          servable = !bytes.is_nil() && random.below(2) == 0;
          const bool with_life = on.tested.requests().size() == 3;
          next = with_life ? on.answer(looked(bytes)) : on.answer({bytes, text(now_stamp)});
        }
      } else {
        if (!first_wait) first_wait = on.now;
        const time_point until = on.tested.wait_until();
        if (rules.hard_timeout) REQUIRE(until <= *first_wait + *rules.hard_timeout);
        if (!own && !late) REQUIRE(until <= *first_wait + rules.lease_wait);
        const bool early = random.below(4) == 0 && until > on.now;
        if (!early && until != time_point::max()) on.now = std::max(on.now, until);
        if (next == step::await_wakeup) {
          next = on.tested.woken(on.now);
        } else if (until == time_point::max() || early) {
          next = on.tested.flight_ended(random.below(2) == 0);
        } else {
          next = on.tested.waited();
        }
      }
    }
    if (next == step::answer && on.tested.source() != fetch_source::flight) {
      ++served;
      CHECK(servable);
      CHECK(rules.stale_for > 0ms);
    }
    if (next == step::give_up && on.tested.reason() == fetch_failure::timeout) {
      ++timeouts;
      REQUIRE(rules.hard_timeout);
      REQUIRE(first_wait);
      CHECK(on.now >= *first_wait + *rules.hard_timeout);
    }
  }
  CHECK(served > 100);
  CHECK(timeouts > 100);
}
