#include "engine/link_state.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cmath>
#include <string>

namespace {

using namespace std::chrono_literals;
using tenantry::errc;
using tenantry::execution;
using tenantry::detail::failure;
using tenantry::detail::link_state;
using phase = link_state::phase;
using time_point = link_state::time_point;

const time_point start{1h};
const double almost_one = std::nextafter(1.0, 0.0);

failure because(errc code, const std::string& detail = "why") {
  return {.code = code, .what = execution::not_sent, .detail = detail};
}

/// A link whose attempt at `start` ended like this, with the longest pause after it.
link_state failed_with(errc code) {
  link_state link;
  link.attempt();
  link.failed(because(code), start, almost_one);
  return link;
}

const failure an_end = {.code = errc::connection_lost, .what = execution::unknown, .detail = "closed by the server"};

link_state unreachable() { return failed_with(errc::unreachable); }  // the pause lasts 20 ms
link_state refused() { return failed_with(errc::auth); }             // 10 s

/// The longest pause that the next failed attempt can be followed by.
auto pause_after_failure(link_state link) {
  link.attempt();
  link.failed(because(errc::unreachable), start, almost_one);
  return link.next_attempt() - start;
}

auto pause_after_refusal(link_state link) {
  link.attempt();
  link.failed(because(errc::auth), start, almost_one);
  return link.next_attempt() - start;
}

}  // namespace

TEST_CASE("a link begins without a connection, and may try to get one at once") {
  const link_state link;
  CHECK(link.now() == phase::offline);
  CHECK_FALSE(link.online());
  CHECK(link.next_attempt() <= start);
  CHECK_FALSE(link.refused());
  CHECK_FALSE(link.last_failure());
}

TEST_CASE("while an attempt runs no other begins, however it ends") {
  link_state link;
  for (int i = 0; i < 2; ++i) {
    link.attempt();
    CHECK(link.now() == phase::connecting);
    CHECK_FALSE(link.online());
    link.given_up();
    CHECK(link.now() == phase::offline);

    link.attempt();
    CHECK(link.now() == phase::connecting);
    link.failed(because(errc::unreachable), start, 0.5);
    CHECK(link.now() == phase::offline);
    CHECK_FALSE(link.online());

    link.attempt();
    CHECK(link.now() == phase::connecting);
    link.connected(start);
    CHECK(link.now() == phase::online);
    CHECK(link.online());
    link.lost(an_end, start, 0.5);
    CHECK(link.now() == phase::offline);
    CHECK_FALSE(link.online());
  }
}

TEST_CASE("the pause after a failed attempt is random, up to a limit that doubles from 20 ms to 2 s") {
  link_state link;
  time_point now = start;
  for (const auto limit : {20ms, 40ms, 80ms, 160ms, 320ms, 640ms, 1280ms, 2000ms, 2000ms}) {
    link_state lucky = link;
    lucky.failed(because(errc::unreachable), now, 0.0);
    CHECK(lucky.next_attempt() == now);
    link.failed(because(errc::unreachable), now, almost_one);
    CHECK(link.next_attempt() == now + limit);
    now += 1min;
  }
}

TEST_CASE("a server that refuses the client is left alone for 5 s at least, and for 10, 20 and 30 s at most") {
  link_state link;
  time_point now = start;
  for (const auto limit : {10s, 20s, 30s, 30s}) {
    link_state lucky = link;
    lucky.failed(because(errc::auth), now, 0.0);
    CHECK(lucky.next_attempt() == now + 5s);
    link.failed(because(errc::auth), now, almost_one);
    CHECK(link.next_attempt() == now + limit);
    now += 1min;
  }
}

TEST_CASE("failures that time does not mend are refusals, and all others are tried again soon") {
  for (const errc code :
       {errc::auth, errc::unsupported, errc::protocol, errc::server, errc::no_permission, errc::invalid_option}) {
    CAPTURE(tenantry::to_string(code));
    CHECK(failed_with(code).refused());
    CHECK(failed_with(code).next_attempt() == start + 10s);
  }
  for (const errc code : {errc::unreachable, errc::not_ready, errc::timeout, errc::connection_lost, errc::cancelled,
                          errc::closed, errc::out_of_memory, errc::read_only, errc::overloaded, errc::forked}) {
    CAPTURE(tenantry::to_string(code));
    CHECK_FALSE(failed_with(code).refused());
    CHECK(failed_with(code).next_attempt() == start + 20ms);
  }
}

TEST_CASE("the last failure decides whether the server refuses the client") {
  link_state link = refused();
  link.attempt();
  link.failed(because(errc::unreachable, "gone"), start + 10s, almost_one);
  CHECK_FALSE(link.refused());
  CHECK(link.next_attempt() == start + 10s + 20ms);
  REQUIRE(link.last_failure());
  CHECK(link.last_failure()->detail == "gone");
  CHECK(link.refusal(false, start + 10s) == nullptr);

  link.attempt();
  link.failed(because(errc::auth, "wrong password"), start + 11s, almost_one);
  CHECK(link.refused());
  REQUIRE(link.last_failure());
  CHECK(link.last_failure()->code == errc::auth);
  CHECK(link.last_failure()->detail == "wrong password");
  CHECK(link.refusal(false, start + 11s) != nullptr);
}

TEST_CASE("after a connection that served somebody the next attempt is due at once, and pauses are short again") {
  link_state link = unreachable();
  for (int i = 0; i < 5; ++i) link.failed(because(errc::unreachable), start, almost_one);
  for (int i = 0; i < 5; ++i) link.failed(because(errc::auth), start, almost_one);
  link.attempt();
  link.connected(start + 1min);
  link.served();
  link.lost(an_end, start + 1min, almost_one);
  CHECK(link.next_attempt() == start + 1min);
  CHECK(pause_after_failure(link) == 20ms);
  CHECK(pause_after_refusal(link) == 10s);
}

TEST_CASE("a connection that lasted a second counts as good, even if nobody used it") {
  link_state link = unreachable();
  for (int i = 0; i < 5; ++i) link.failed(because(errc::unreachable), start, almost_one);
  for (int i = 0; i < 5; ++i) link.failed(because(errc::auth), start, almost_one);
  link.attempt();
  link.connected(start + 1min);
  link.lost(an_end, start + 1min + 1s, almost_one);
  CHECK(link.next_attempt() == start + 1min + 1s);
  CHECK(pause_after_failure(link) == 20ms);
  CHECK(pause_after_refusal(link) == 10s);
}

TEST_CASE("a server that accepts clients only to drop them is left alone ever longer") {
  link_state link;
  time_point now = start;
  for (const auto limit : {20ms, 40ms, 80ms, 160ms}) {
    link.attempt();
    link.connected(now);
    now += 1s - 1ns;
    link_state lucky = link;
    lucky.lost(an_end, now, 0.0);
    CHECK(lucky.next_attempt() == now);
    link.lost(an_end, now, almost_one);
    CHECK(link.next_attempt() == now + limit);
    now += 1min;
  }
  CHECK(pause_after_failure(link) == 320ms);
}

TEST_CASE("a short useless connection does not end the growth of the pauses") {
  link_state link;
  for (int i = 0; i < 3; ++i) link.failed(because(errc::unreachable), start, almost_one);
  link.failed(because(errc::auth), start, almost_one);
  link.attempt();
  link.connected(start);
  CHECK(pause_after_failure(link) == 160ms);  // nor does connecting by itself
  link.lost(an_end, start, almost_one);
  CHECK(link.next_attempt() == start + 160ms);
  CHECK(pause_after_failure(link) == 320ms);
  CHECK(pause_after_refusal(link) == 20s);
}

TEST_CASE("what an earlier connection did does not make a later one good") {
  link_state link;
  link.attempt();
  link.connected(start);
  link.served();
  link.lost(an_end, start + 1h, almost_one);

  link.attempt();
  link.connected(start + 1h);
  link.lost(an_end, start + 1h, almost_one);
  CHECK(link.next_attempt() == start + 1h + 20ms);
}

TEST_CASE("before the first attempt has failed there is nothing that a call could be told") {
  link_state link;
  for (const bool fail_fast : {true, false}) CHECK(link.refusal(fail_fast, start) == nullptr);
  link.attempt();
  for (const bool fail_fast : {true, false}) CHECK(link.refusal(fail_fast, start) == nullptr);
  link.given_up();
  for (const bool fail_fast : {true, false}) CHECK(link.refusal(fail_fast, start) == nullptr);
}

TEST_CASE("in the pause after a failed attempt calls that fail fast are told why, and the others wait") {
  const link_state link = unreachable();
  for (const auto now : {start, start + 20ms - 1ns}) {
    REQUIRE(link.refusal(true, now) != nullptr);
    CHECK(link.refusal(true, now)->code == errc::unreachable);
    CHECK(link.refusal(true, now)->detail == "why");
    CHECK(link.refusal(false, now) == nullptr);
  }
}

TEST_CASE("after the pause a call that fails fast makes the next attempt itself") {
  const link_state link = unreachable();
  for (const auto now : {start + 20ms, start + 1h}) {
    CHECK(link.refusal(true, now) == nullptr);
    CHECK(link.refusal(false, now) == nullptr);
  }
}

TEST_CASE("while an attempt follows a failed one calls that fail fast do not wait for it, however long it takes") {
  link_state link = unreachable();
  link.attempt();
  for (const auto now : {start, start + 20ms, start + 1h}) {
    REQUIRE(link.refusal(true, now) != nullptr);
    CHECK(link.refusal(true, now)->code == errc::unreachable);
    CHECK(link.refusal(false, now) == nullptr);
  }
}

TEST_CASE("while a server that refused the client is left alone all calls fail at once with its reason") {
  link_state link = refused();
  for (int i = 0; i < 2; ++i) {
    for (const bool fail_fast : {true, false}) {
      for (const auto now : {start, start + 10s - 1ns}) {
        REQUIRE(link.refusal(fail_fast, now) != nullptr);
        CHECK(link.refusal(fail_fast, now)->code == errc::auth);
        CHECK(link.refusal(fail_fast, now)->detail == "why");
      }
    }
    link.attempt();  // one that waits for the end of the pause
  }
}

TEST_CASE("after the pause that follows a refusal the next call tries again") {
  link_state link = refused();
  for (const bool fail_fast : {true, false}) {
    CHECK(link.refusal(fail_fast, start + 10s) == nullptr);
    CHECK(link.refusal(fail_fast, start + 1h) == nullptr);
  }
  link.attempt();
  CHECK(link.refusal(false, start + 10s) == nullptr);  // it waits for this attempt
}

TEST_CASE("with a connection no call is refused") {
  for (link_state link : {unreachable(), refused()}) {
    link.attempt();
    link.connected(start);
    for (const bool fail_fast : {true, false}) CHECK(link.refusal(fail_fast, start) == nullptr);
  }
}

TEST_CASE("a connection makes earlier failures forgotten, also once it is lost") {
  for (link_state link : {unreachable(), refused()}) {
    CHECK(link.last_failure());
    link.attempt();
    CHECK(link.last_failure());
    link.connected(start);
    CHECK_FALSE(link.last_failure());
    link.served();
    link.lost(an_end, start, almost_one);
    CHECK_FALSE(link.last_failure());
    for (const bool fail_fast : {true, false}) CHECK(link.refusal(fail_fast, start) == nullptr);
    link.attempt();
    for (const bool fail_fast : {true, false}) CHECK(link.refusal(fail_fast, start) == nullptr);
  }
}

TEST_CASE("an attempt whose caller gave up first changes neither the last failure nor the pause") {
  link_state link = unreachable();
  link.attempt();
  link.given_up();
  REQUIRE(link.last_failure());
  CHECK(link.last_failure()->code == errc::unreachable);
  CHECK(link.next_attempt() == start + 20ms);
  CHECK(link.refusal(true, start) != nullptr);
  CHECK(link.refusal(true, start + 20ms) == nullptr);
  CHECK(pause_after_failure(link) == 40ms);

  link = refused();
  link.attempt();
  link.given_up();
  CHECK(link.refused());
  CHECK(link.refusal(false, start) != nullptr);
  CHECK(link.next_attempt() == start + 10s);
}

TEST_CASE("while an attempt follows a refusal calls that fail fast are told of it, and the others wait") {
  link_state link = refused();
  link.attempt();
  REQUIRE(link.refusal(true, start + 10s) != nullptr);
  CHECK(link.refusal(true, start + 10s)->code == errc::auth);
  CHECK(link.refusal(false, start + 10s) == nullptr);
}

TEST_CASE("a connection makes a refusal forgotten") {
  link_state link = refused();
  link.attempt();
  link.connected(start + 10s);
  CHECK_FALSE(link.refused());
  link.lost(an_end, start + 10s, almost_one);
  CHECK(link.refusal(false, start + 10s) == nullptr);
}

TEST_CASE("the end of a connection that served nobody is a failure to those who come in the pause, and not sent") {
  link_state link;
  link.attempt();
  link.connected(start);
  link.lost(an_end, start, almost_one);
  REQUIRE(link.last_failure());
  CHECK(link.last_failure()->code == errc::connection_lost);
  CHECK(link.last_failure()->what == execution::not_sent);
  CHECK(link.last_failure()->detail == an_end.detail);
  CHECK(link.refusal(true, start) != nullptr);
  CHECK(link.refusal(false, start) == nullptr);

  link_state good;
  good.attempt();
  good.connected(start);
  good.served();
  good.lost(an_end, start, almost_one);
  CHECK_FALSE(good.last_failure());
}
