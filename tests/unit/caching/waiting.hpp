#pragma once
// A fetch that waits, in the hands of a test: for a flight, for another process's lease, or for its own load.

#include "machine_bench.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace machine_test {

using time_point = fetch_machine::time_point;
using std::chrono::milliseconds;
using limit = std::optional<milliseconds>;

inline const std::string theirs = "someoneelse " + now_stamp;
inline const std::string old_copy = value("old", {.stale = 1h});
inline const std::string other_copy = value("other", {.stale = 1h});
inline const std::string tagged_copy =
    value("old", {.stamp = stamp('1', '2', 'x'), .stale = 1h, .tags = {tagged("a", 'a', 'b')}});
inline constexpr std::int64_t beyond_ttl = 1000;
inline constexpr std::int64_t within_ttl = 3'700'000;
inline const texts look_with_life{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name};

/// What is waited for.
enum class kind : unsigned char { flight, lease, own };
inline constexpr kind all_kinds[] = {kind::flight, kind::lease, kind::own};
inline constexpr const char* name_of(kind what) {
  return what == kind::flight ? "a flight" : what == kind::lease ? "another's lease" : "its own load";
}

inline std::vector<reply> looked(reply bytes, std::int64_t life = beyond_ttl) {
  return {number(life), std::move(bytes), text(now_stamp)};
}

/// A fetch that begins to wait, over a stale copy or over nothing.
struct waiter : bench {
  waiter(kind what, bool copy, fetch_rules with, std::int64_t lease_life = 60'000) : bench{with}, waits_for{what} {
    INFO(name_of(what));
    if (what == kind::own) {
      REQUIRE(tested.begin_following(copy, false, now) == step::await_flight);
      return;
    }
    begin();
    std::vector<reply> replies = copy ? looked(text(old_copy)) : looked(nil(), -2);
    if (!rules.needs_life()) replies.erase(replies.begin());
    step next = answer(replies);
    if (asks() == look_with_life) next = answer(looked(text(old_copy)));  // what others keep
    REQUIRE(next == step::ask);
    REQUIRE(tested.asks_for_lease());
    wait_again(lease_life);
  }
  void wait_again(std::int64_t lease_life) {
    REQUIRE(answer({lease_busy(theirs, lease_life)}) == step::board);
    const bool follows = waits_for == kind::flight;
    REQUIRE(board(follows ? boarding::follows : boarding::nobody) == waiting());
  }

  kind waits_for;
  const time_point start = now;

  [[nodiscard]] step waiting() const { return waits_for == kind::lease ? step::await_wakeup : step::await_flight; }
  [[nodiscard]] milliseconds until() const {
    return std::chrono::duration_cast<milliseconds>(tested.wait_until() - start);
  }
  /// The wait is over.
  step wait() {
    now = std::max(now, tested.wait_until());
    return waits_for == kind::lease ? tested.woken(now) : tested.waited();
  }
};

/// A look that finds nothing to serve, in words and as what it takes to be answered.
struct vain_look {
  const char* what;
  std::vector<reply> replies;  // none: Redis is silent
  bool decodes = false;        // to nothing
  bool then_silent = false;    // when the tags are read
  step (*then)(bench&) = nullptr;
};
inline const std::vector<vain_look>& vain_looks() {
  static const std::vector<vain_look> all{
      {.what = "nothing there", .replies = looked(nil(), -2)},
      {.what = "a hard token moved", .replies = {number(beyond_ttl), text(old_copy), text(stamp('x', '2', '3'))}},
      {.what = "no stamp", .replies = {number(beyond_ttl), text(old_copy), nil()}},
      {.what = "another type", .replies = looked(wrong_type)},
      {.what = "a defect", .replies = looked(text("x"))},
      {.what = "a stale copy that cannot be decoded", .replies = looked(text(other_copy)), .decodes = true},
      {.what = "a fresh value that cannot be decoded",
       .replies = looked(text(other_copy), within_ttl),
       .decodes = true},
      {.what = "silence", .replies = {}},
      {.what = "an error", .replies = {number(1), fault("LOADING"), text(now_stamp)}},
      {.what = "tags that Redis does not tell", .replies = looked(text(tagged_copy)), .then_silent = true},
      {.what = "a tag that moved",
       .replies = looked(text(tagged_copy)),
       .then = [](bench& on) { return on.answer({list({text(tag_text('x', 'b'))})}); }},
  };
  return all;
}

/// Answers a second look, and returns what the machine does then.
inline step answer_in_vain(bench& on, const vain_look& how) {
  REQUIRE(on.asks() == look_with_life);
  CHECK_FALSE(on.tested.asks_for_lease());
  step next = how.replies.empty() ? on.no_answer() : on.answer(how.replies);
  if (how.then_silent || how.then != nullptr) {
    REQUIRE(next == step::ask);
    REQUIRE(on.asks() == texts{"MGET " + stamp_name + ":tag:a"});
    next = how.then_silent ? on.no_answer() : how.then(on);
  }
  if (how.decodes) {
    REQUIRE(next == step::decode);
    next = on.tested.decoded(false);
  }
  return next;
}
inline const vain_look nothing_there{.what = "nothing there", .replies = looked(nil(), -2)};

/// The value that is read at a second look is served.
inline void check_served(bench& on, std::vector<reply> replies, fetch_source from, const char* payload = "other") {
  REQUIRE(on.asks() == look_with_life);
  REQUIRE(on.answer(std::move(replies)) == step::decode);
  CHECK(on.tested.payload() == payload);
  CHECK(on.tested.decoded(true) == step::answer);
  CHECK(on.tested.source() == from);
  CHECK_FALSE(on.tested.stored());
  CHECK_FALSE(on.tested.leads());
}

inline void check_given_up(bench& on, step next, fetch_failure why) {
  CHECK(next == step::give_up);
  CHECK(on.tested.reason() == why);
}

inline fetch_rules limited(limit soft, limit hard, milliseconds lease_wait = 5s, milliseconds stale_for = 1h) {
  return {.stale_for = stale_for, .lease_wait = lease_wait, .soft_timeout = soft, .hard_timeout = hard};
}
inline const fetch_rules both = limited(100ms, 1s);

}  // namespace machine_test
