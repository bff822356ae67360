// What a consumer of a group asks Redis, and when.

#include "messaging/consumer_machine.hpp"

#include <tenantry/detail/consume_core.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using namespace std::chrono_literals;
using step = td::consumer_machine::step;
using outcome = td::settled_work::outcome;

const std::string ours = "aaaaaaaaaaaaaaaa";
const std::string other = "bbbbbbbbbbbbbbbb";

std::shared_ptr<td::held_work> event(std::uint64_t offset, std::uint32_t attempt = 1, const std::string& epoch = ours) {
  auto made = std::make_shared<td::held_work>();
  made->id = epoch + '-' + std::to_string(offset) + "-00000000";
  made->offset = offset;
  made->attempt = attempt;
  return made;
}

/// A consumer that takes two at a time, and the time.
struct consumer {
  consumer() = default;
  explicit consumer(const tn::consume_options& how) : machine{how} {}

  td::work_request asks() {
    CHECK(machine.next(now) == step::exchange);
    return machine.request(now);
  }
  void gets(std::initializer_list<std::shared_ptr<td::held_work>> events, const std::string& claim_from = {},
            const std::string& epoch = ours) {
    td::work_reply answer{.epoch = epoch, .claim_from = claim_from, .given = {events}};
    machine.answered(std::move(answer), now);
  }
  /// The offset of the event that is handed out; 0 where there is none.
  std::uint64_t hands_out() { return machine.next(now) == step::hand_out ? machine.current()->offset : 0; }
  /// Asks once and has nothing to do.
  void idles() {
    (void)asks();
    gets({});
    CHECK(machine.next(now) == step::wait);
  }

  td::consumer_machine::time_point now{1h};
  td::consumer_machine machine{{.batch = 2, .max_attempts = 3, .retry_after = 1s, .claim_after = 30s}};
};

}  // namespace

TEST_CASE("a consumer looks for work of the dead at first, and each half of claim_after") {
  consumer c;
  CHECK(c.asks().claim_from == "0-0");
  c.gets({});
  CHECK(c.machine.next(c.now) == step::wait);
  CHECK(c.machine.wait_until() == c.now + 15s);
  c.now += 14s;
  CHECK(c.machine.next(c.now) == step::wait);
  c.machine.news();
  CHECK_FALSE(c.asks().claim_from);
  c.gets({});
  c.now += 1s;
  CHECK(c.asks().claim_from == "0-0");
  c.gets({}, "7-0");
  CHECK(c.asks().claim_from == "7-0");  // where it goes on, and at once
  c.gets({});
  CHECK(c.machine.next(c.now) == step::wait);
}

TEST_CASE("events are handed out in order, and settled with the next request") {
  consumer c;
  CHECK(c.asks().count == 2);
  c.gets({event(1), event(2)});
  CHECK(c.hands_out() == 1);
  CHECK(c.hands_out() == 1);
  c.machine.done(c.now);
  CHECK(c.hands_out() == 2);
  c.machine.done(c.now);
  const td::work_request next = c.asks();  // there may be more: it got as many as it asked for
  CHECK(next.count == 2);
  CHECK(next.epoch == ours);
  REQUIRE(next.settled.size() == 2);
  CHECK(next.settled[0].of->offset == 1);
  CHECK(next.settled[0].what == outcome::done);
  c.gets({event(3)});
  CHECK(c.hands_out() == 3);
  c.machine.done(c.now);
  CHECK(c.asks().settled.size() == 1);
  c.gets({});
  CHECK(c.machine.next(c.now) == step::wait);
  CHECK(c.machine.counters().handled == 3);
}

TEST_CASE("what is settled is not said later than a moment, also while there is more to hand out") {
  consumer c;
  (void)c.asks();
  c.gets({event(1), event(2)});
  CHECK(c.hands_out() == 1);
  c.machine.done(c.now);
  c.now += td::consumer_machine::settles_after - 1ms;
  CHECK(c.hands_out() == 2);
  c.now += 1ms;
  const td::work_request settles = c.asks();
  CHECK(settles.count == 0);
  CHECK(settles.settled.size() == 1);
  c.gets({});
  CHECK(c.hands_out() == 2);
}

TEST_CASE("what is settled is said again until there is an answer") {
  consumer c;
  (void)c.asks();
  c.gets({event(1)});
  c.machine.done(c.now);
  CHECK(c.asks().settled.size() == 1);
  c.machine.unanswered(false);
  CHECK(c.asks().settled.size() == 1);
  c.machine.unanswered(true);
  const td::work_request again = c.asks();
  CHECK(again.settled.size() == 1);
  c.gets({});
  CHECK(c.machine.next(c.now) == step::wait);
}

TEST_CASE("a request whose answer was lost is followed by one that asks for what it gave") {
  consumer c;
  CHECK_FALSE(c.asks().recover);
  c.machine.unanswered(false);
  CHECK_FALSE(c.asks().recover);  // it did not run
  c.machine.unanswered(true);
  CHECK(c.asks().recover);
  c.machine.unanswered(false);
  CHECK(c.asks().recover);  // not asked yet
  c.gets({event(1)});
  CHECK(c.hands_out() == 1);
  c.machine.done(c.now);
  CHECK_FALSE(c.asks().recover);
}

TEST_CASE("what only settles gives nothing, so that nothing can be lost with its answer") {
  consumer c;
  (void)c.asks();
  c.gets({event(1), event(2)});
  CHECK(c.hands_out() == 1);
  c.machine.done(c.now);
  c.now += 1s;
  CHECK(c.asks().count == 0);
  c.machine.unanswered(true);
  CHECK_FALSE(c.asks().recover);
}

TEST_CASE("an attempt that failed is followed by the next after a pause that doubles, up to claim_after") {
  consumer c{{.batch = 2, .max_attempts = 9, .retry_after = 10s, .claim_after = 30s}};
  for (const auto& [attempt, pause] : {std::pair{1U, 10s}, {2U, 20s}, {3U, 30s}, {8U, 30s}}) {
    c.machine.news();
    (void)c.asks();
    c.gets({event(attempt, attempt)});
    CHECK(c.hands_out() == attempt);
    c.machine.failed("no", c.now);
    const td::work_request next = c.asks();
    REQUIRE(next.settled.size() == 1);
    CHECK(next.settled[0].what == outcome::again);
    CHECK(next.settled[0].after == pause);
    CHECK(next.settled[0].attempts == attempt);
    c.gets({});
  }
  CHECK(c.machine.counters().failed == 4);
}

TEST_CASE("a consumer looks for what failed when it is due, a few times") {
  consumer c;
  (void)c.asks();
  c.gets({event(1)});
  c.machine.failed("no", c.now);
  c.idles();
  CHECK(c.machine.wait_until() == c.now + 1s + 5ms);
  c.now += 1s + 5ms;
  CHECK(c.asks().claim_from == "0-0");
  c.gets({});  // not yet, for the server
  CHECK(c.machine.next(c.now) == step::wait);
  CHECK(c.machine.wait_until() == c.now + 100ms);
  c.now += 100ms;
  CHECK(c.asks().claim_from == "0-0");
  c.gets({event(1, 2)});
  CHECK(c.hands_out() == 1);
  CHECK(c.machine.counters().again == 1);
  c.machine.done(c.now);
  c.idles();
  CHECK(c.machine.wait_until() > c.now + 10s);

  // Where somebody else has got it, it stops looking.
  c.machine.news();
  (void)c.asks();
  c.gets({event(2)});
  c.machine.failed("no", c.now);
  c.idles();
  int looked = 0;
  while (c.machine.wait_until() < c.now + 2s) {
    c.now = c.machine.wait_until();
    c.idles();
    ++looked;
  }
  CHECK(looked == 10);
}

TEST_CASE("what is found again after a lost answer, but only waits for its next attempt, is not handed out") {
  consumer c;
  (void)c.asks();
  c.gets({event(1)});
  c.machine.failed("no", c.now);
  (void)c.asks();
  c.machine.unanswered(true);
  CHECK(c.asks().recover);
  c.gets({event(1, 1), event(2)});
  CHECK(c.hands_out() == 2);
  c.machine.done(c.now);
  CHECK(c.hands_out() == 0);
}

TEST_CASE("the last attempt that fails, and what cannot be decoded, is a dead letter") {
  consumer c;
  (void)c.asks();
  c.gets({event(1, 3), event(2)});
  c.machine.failed(std::string(600, 'x'), c.now);
  c.machine.undecodable("not JSON", c.now);
  const td::work_request next = c.asks();
  REQUIRE(next.settled.size() == 2);
  CHECK(next.settled[0].what == outcome::dead);
  CHECK(next.settled[0].attempts == 3);
  CHECK(next.settled[0].why == std::string(512, 'x'));
  CHECK(next.settled[1].what == outcome::dead);
  CHECK(next.settled[1].why == "not JSON");
  CHECK(c.machine.counters().dead == 2);
  CHECK(c.machine.counters().failed == 1);
}

TEST_CASE("what somebody else has been given meanwhile is not handed out") {
  consumer c;
  (void)c.asks();
  const auto first = event(1);
  c.gets({first, event(2)});
  first->lost = true;
  CHECK(c.hands_out() == 2);
}

TEST_CASE("who leaves gives back what was not handed out, as no attempt") {
  consumer c;
  (void)c.asks();
  const auto lost = event(3, 2);
  c.gets({event(1), event(2, 2), lost});
  CHECK(c.hands_out() == 1);
  c.machine.done(c.now);
  lost->lost = true;
  const td::work_request last = c.machine.leave(c.now);
  CHECK(last.leave);
  CHECK(last.count == 0);
  CHECK_FALSE(last.claim_from);
  REQUIRE(last.settled.size() == 2);
  CHECK(last.settled[0].what == outcome::done);
  CHECK(last.settled[1].what == outcome::again);
  CHECK(last.settled[1].of->offset == 2);
  CHECK(last.settled[1].after == 0ms);
  CHECK(last.settled[1].attempts == 1);
}

TEST_CASE("nothing is said of events of a log that is gone, but they are handed out") {
  consumer c;
  (void)c.asks();
  c.gets({event(1), event(2)});
  c.machine.failed("no", c.now);
  c.now += 1s;
  (void)c.asks();
  c.gets({}, {}, other);
  CHECK(c.hands_out() == 2);
  c.machine.done(c.now);
  (void)c.asks();
  c.gets({event(1, 1, other)}, {}, other);  // not the one that failed
  CHECK(c.hands_out() == 1);
  c.machine.done(c.now);
  const td::work_request next = c.asks();
  CHECK(next.epoch == other);
  CHECK(next.settled.size() == 1);
}

TEST_CASE("whatever is appended after the first answer is for the group") {
  consumer c;
  CHECK_FALSE(c.asks().group_known);
  c.machine.unanswered(true);
  CHECK_FALSE(c.asks().group_known);
  c.gets({}, {}, {});
  c.machine.news();
  CHECK(c.asks().group_known);
}

TEST_CASE("a consumer that looked for what a lost answer gave, asks for more") {
  consumer c;
  (void)c.asks();
  c.gets({event(1)});
  c.machine.failed("no", c.now);
  (void)c.asks();
  c.machine.unanswered(true);
  CHECK(c.asks().recover == 3);  // a batch, besides what waits for its next attempt
  c.gets({event(1, 1)});         // it only waits: where something was found, nothing new is read
  CHECK(c.asks().count == 2);
}

TEST_CASE("a consumer whose only event was lost to another one asks for more") {
  consumer c;
  c.idles();
  c.machine.news();
  (void)c.asks();
  const auto lost = event(1, 2);
  c.gets({lost});
  lost->lost = true;
  CHECK(c.asks().count == 2);
}

TEST_CASE("who leaves after a lost answer asks for what it may have given, to give it back") {
  consumer c;
  (void)c.asks();
  CHECK_FALSE(c.machine.recovers());
  c.machine.unanswered(true);
  REQUIRE(c.machine.recovers());
  CHECK(c.machine.request(c.now).recover);
  c.gets({event(1)});
  CHECK_FALSE(c.machine.recovers());
  const td::work_request last = c.machine.leave(c.now);
  REQUIRE(last.settled.size() == 1);
  CHECK(last.settled[0].attempts == 0);
}
