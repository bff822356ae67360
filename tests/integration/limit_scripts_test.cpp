// What the limiters' scripts decide, with times that the test chooses, against a model that remembers everything.

#include "limiting/scripts.hpp"
#include "support/cache_rig.hpp"
#include "support/random_bytes.hpp"

#include <tenantry/client.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/script.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using support::redis_rig;
using us = std::int64_t;  // microseconds

constexpr us second = 1'000'000;
constexpr us begin = 1'795'000'000 * second;
const std::string key = "ratelimit:{acme}:/api/kpi#test";

struct limit {
  std::int64_t units;
  us window;
};

struct state {
  std::int64_t left;
  us retry;
  us next;
  us reset;
};
struct answer {
  std::int64_t granted;
  std::vector<state> of;

  /// When the cost would be admitted; -1: never.
  [[nodiscard]] us retry() const {
    us longest = 0;
    for (const state& each : of) {
      if (each.retry < 0) return -1;
      longest = std::max(longest, each.retry);
    }
    return longest;
  }
};

/// A script at work on one key.
struct tested {
  const redis_rig& redis;
  const tn::script& which;

  /// "most" is as many requests of one unit.
  [[nodiscard]] answer run(std::string_view what, std::int64_t cost, us now, const std::vector<limit>& limits,
                           std::int64_t requests = 1, us ahead = 0) const {
    const bool most = what == "most";
    std::vector<std::string> words{most ? "take" : std::string{what},
                                   std::to_string(most ? std::min<std::int64_t>(cost, 1) : cost),
                                   std::to_string(most ? cost : requests), std::to_string(ahead)};
    for (const limit& each : limits) {
      words.push_back(std::to_string(each.units));
      words.push_back(std::to_string(each.window));
    }
    words.push_back(std::to_string(now));
    const std::vector<std::string_view> views{words.begin(), words.end()};
    const std::vector<std::string_view> keys{key};
    const tn::reply from = redis.client.eval(which, keys, views);
    answer got{.granted = from[0].integer(), .of = {}};
    for (std::size_t i = 0; i < limits.size(); ++i) {
      got.of.push_back({.left = from[4 * i + 1].integer(),
                        .retry = from[4 * i + 2].integer(),
                        .next = from[4 * i + 3].integer(),
                        .reset = from[4 * i + 4].integer()});
    }
    return got;
  }
  /// Everything about the key, to see whether something changed.
  [[nodiscard]] std::string dump() const {
    const tn::reply bytes = redis.client.execute("GET", key);
    return (bytes.is_nil() ? std::string{"nothing"} : bytes.str()) + '@' +
           std::to_string(redis.client.execute("PEXPIRETIME", key).integer());
  }
};

/// All units that were admitted and not given back, by time.
class history {
 public:
  void add(us at, std::int64_t units) { all_.insert(all_.end(), static_cast<std::size_t>(units), at); }
  void give_back(std::int64_t units) { all_.resize(all_.size() - static_cast<std::size_t>(units)); }
  [[nodiscard]] std::int64_t within(us window, us now) const {
    return all_.end() - std::upper_bound(all_.begin(), all_.end(), now - window);
  }
  /// When no more than so many are left.
  [[nodiscard]] us falls_to(std::int64_t units, us window, us now) const {
    const std::int64_t used = within(window, now);
    if (used <= units) return 0;
    return all_[all_.size() - static_cast<std::size_t>(units) - 1] + window - now;
  }
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(all_.size()); }

 private:
  std::vector<us> all_;
};

}  // namespace

TEST_CASE("the sliding log decides as one who remembers every unit, with one limit and with several") {
  const redis_rig redis;
  support::random_bytes random;
  const tested log{redis, tn::detail::scripts::sliding_log()};
  for (int round = 0; round < 60; ++round) {
    redis.client.execute("DEL", key);
    std::vector<limit> limits;
    const std::size_t count = 1 + random.below(3);
    for (std::size_t i = 0; i < count; ++i) {
      // Longer than a round may take by the server's clock, which ends the key.
      limits.push_back({.units = std::int64_t(random.below(40)), .window = us(200 + random.below(3000)) * 100'000});
    }
    const us longest = std::ranges::max_element(limits, {}, &limit::window)->window;
    history seen;
    us now = begin;
    for (int i = 0; i < 120; ++i) {
      now += random.below(3) == 0 ? 0 : us(random.below(static_cast<std::size_t>(longest / 8)));
      const auto cost = std::int64_t(random.below(6));
      const std::size_t choice = random.below(10);
      const char* const what = choice < 5 ? "take" : choice < 7 ? "most" : choice < 9 ? "peek" : "refund";
      const bool refunds = choice == 9;
      const std::string before = log.dump();
      const answer got = log.run(what, cost, now, limits);
      INFO(what << ' ' << cost << " at " << now - begin << ", step " << i << " of round " << round);

      std::int64_t allowed = cost;
      for (const limit& each : limits) {
        const std::int64_t left = std::max<std::int64_t>(each.units - seen.within(each.window, now), 0);
        if (choice == 5 || choice == 6) {
          allowed = std::min(allowed, left);
        } else if (cost > left) {
          allowed = 0;
        }
      }
      if (refunds) allowed = std::min(cost, seen.within(longest, now));
      REQUIRE(got.granted == allowed);
      const bool changes = choice != 7 && choice != 8 && allowed > 0;
      if (!changes) REQUIRE(log.dump() == before);  // a denial or a peek writes nothing
      if (changes && refunds) seen.give_back(allowed);
      if (changes && !refunds) seen.add(now, allowed);
      std::vector<us> retries;  // of one more
      for (const limit& each : limits) {
        const std::int64_t wanted = choice == 5 || choice == 6 ? std::min<std::int64_t>(cost, 1) : cost;
        const bool denied = allowed < cost && !refunds;
        retries.push_back(!denied               ? 0
                          : wanted > each.units ? -1
                                                : seen.falls_to(each.units - wanted, each.window, now));
      }
      for (std::size_t n = 0; n < limits.size(); ++n) {
        const std::int64_t used = seen.within(limits[n].window, now);
        REQUIRE(got.of[n].left == std::max<std::int64_t>(limits[n].units - used, 0));
        REQUIRE(got.of[n].retry == retries[n]);
        REQUIRE(got.of[n].reset == seen.falls_to(0, limits[n].window, now));
        const std::int64_t next = std::min(used, limits[n].units) - 1;
        REQUIRE(got.of[n].next == (next < 0 ? 0 : seen.falls_to(next, limits[n].window, now)));
      }
      const std::int64_t life = redis.client.execute("PTTL", key).integer();
      REQUIRE((life == -2 || (life > 0 && life <= longest / 1000 + 1)));
    }
  }
}

namespace {

struct kind {
  const char* name;
  const tn::script& which;
  bool exact_window;  // never more than the limit in any window
};
std::vector<kind> kinds() {
  return {{"sliding_log", tn::detail::scripts::sliding_log(), true},
          {"segmented_log", tn::detail::scripts::segmented_log(), true},
          {"gcra", tn::detail::scripts::gcra(), false}};
}

/// What a script is told of a limit: gcra takes a burst and the time of a unit.
std::vector<limit> told(const kind& one, std::vector<limit> limits) {
  if (one.exact_window) return limits;
  for (limit& each : limits) each.window = each.units == 0 ? 0 : (each.window + each.units - 1) / each.units;
  return limits;
}

}  // namespace

TEST_CASE(
    "every kind: what a decision says of the future comes true, to the microsecond, and a denial writes nothing") {
  const redis_rig redis;
  support::random_bytes random;
  for (const kind& one : kinds()) {
    const tested script{redis, one.which};
    for (int round = 0; round < 25; ++round) {
      redis.client.execute("DEL", key);
      std::vector<limit> limits;
      const std::size_t count = 1 + random.below(2);
      for (std::size_t i = 0; i < count; ++i) {
        limits.push_back(
            {.units = std::int64_t(1 + random.below(30)), .window = us(20'000 + random.below(100'000)) * 1000});
      }
      const us longest = std::ranges::max_element(limits, {}, &limit::window)->window;
      const auto words = told(one, limits);
      history seen;
      us now = begin + us(random.below(1'000'000));
      for (int i = 0; i < 60; ++i) {
        now += random.below(3) == 0 ? 0 : us(random.below(static_cast<std::size_t>(longest / 6)));
        const auto cost = std::int64_t(1 + random.below(6));
        const bool partly = random.below(4) == 0;
        const std::string before = script.dump();
        const answer got = script.run(partly ? "most" : "take", cost, now, words);
        INFO(one.name << ": " << cost << " at " << now - begin << ", step " << i << " of round " << round);
        REQUIRE((got.granted == cost || got.granted == 0 || partly));
        if (got.granted > 0) {
          seen.add(now, got.granted);
        } else {
          REQUIRE(script.dump() == before);
        }
        if (one.exact_window) {
          for (const limit& each : limits) REQUIRE(seen.within(each.window, now) <= each.units);
        }
        if (got.granted == 0) {
          const us retry = got.retry();
          const std::int64_t wanted = partly ? 1 : cost;
          if (retry < 0) {
            REQUIRE(std::ranges::any_of(limits, [&](const limit& each) { return wanted > each.units; }));
          } else {
            REQUIRE(retry > 0);
            REQUIRE(script.run("peek", wanted, now + retry, words).granted == wanted);
            REQUIRE(script.run("peek", wanted, now + retry - 1, words).granted == 0);
          }
        }
        for (std::size_t n = 0; n < limits.size(); ++n) {
          const state& of = got.of[n];
          const auto left_at = [&](us then) { return script.run("peek", 1, then, words).of[n].left; };
          REQUIRE((of.next == 0) == (of.left == limits[n].units));
          REQUIRE((of.reset == 0) == (of.left == limits[n].units));
          if (of.next == 0) continue;
          REQUIRE(left_at(now + of.next) > of.left);
          REQUIRE(left_at(now + of.next - 1) == of.left);
          REQUIRE(left_at(now + of.reset) == limits[n].units);
          REQUIRE(left_at(now + of.reset - 1) < limits[n].units);
        }
        const std::int64_t life = redis.client.execute("PTTL", key).integer();
        REQUIRE((life == -2 || (life > 0 && life <= longest / 1000 + longest / 60'000 + 2)));
      }
    }
  }
}

TEST_CASE("every kind: a saturated limit lets a window's worth through in each window, and no key lives on") {
  const redis_rig redis;
  for (const kind& one : kinds()) {
    const tested script{redis, one.which};
    redis.client.execute("DEL", key);
    const std::vector<limit> limits{{.units = 100, .window = 60 * second}};
    const auto words = told(one, limits);
    std::int64_t admitted = 0;
    for (us now = begin; now < begin + 120 * second; now += 200'000) {  // three times the limit
      admitted += script.run("take", 1, now, words).granted;
    }
    INFO(one.name);
    CHECK(admitted >= 198);
    CHECK(admitted <= (one.exact_window ? 200 : 300));
  }
}

TEST_CASE("every kind: a refund gives back what was taken last, and never more than is charged") {
  const redis_rig redis;
  for (const kind& one : kinds()) {
    INFO(one.name);
    const tested script{redis, one.which};
    redis.client.execute("DEL", key);
    const auto words = told(one, {{.units = 10, .window = 60 * second}});
    CHECK(script.run("refund", 3, begin, words).granted == 0);
    CHECK_FALSE(redis.client.execute("EXISTS", key).integer() == 1);
    CHECK(script.run("take", 10, begin, words).granted == 10);
    CHECK(script.run("take", 1, begin, words).granted == 0);
    const answer back = script.run("refund", 4, begin, words);
    CHECK(back.granted == 4);
    CHECK(back.of[0].left == 4);
    CHECK(script.run("take", 4, begin, words).granted == 4);
    CHECK(script.run("take", 1, begin, words).granted == 0);
    CHECK(script.run("refund", 1000, begin, words).granted == 10);
    CHECK(redis.client.execute("EXISTS", key).integer() == 0);
    CHECK(script.run("peek", 10, begin, words).of[0].left == 10);
  }
}

TEST_CASE("every kind: a clock that steps back by a day blocks for a window at most, a step forward frees the window") {
  const redis_rig redis;
  constexpr us day = 86'400 * second;
  for (const kind& one : kinds()) {
    INFO(one.name);
    const tested script{redis, one.which};
    redis.client.execute("DEL", key);
    const auto words = told(one, {{.units = 10, .window = 60 * second}});
    CHECK(script.run("take", 10, begin, words).granted == 10);
    CHECK(script.run("take", 1, begin - 5 * second, words).granted == 0);  // a little: time stands still
    const answer denied = script.run("take", 1, begin - day, words);
    CHECK(denied.granted == 0);
    CHECK(denied.retry() > 0);
    CHECK(denied.retry() <= 61 * second);
    CHECK(script.run("take", 1, begin - day + denied.retry() - 1, words).granted == 0);
    CHECK(script.run("take", 1, begin - day + denied.retry(), words).granted == 1);
    CHECK(script.run("take", 10, begin + day, words).granted == 10);
  }
}

TEST_CASE("every kind: limits that change keep what was charged") {
  const redis_rig redis;
  for (const kind& one : kinds()) {
    INFO(one.name);
    const tested script{redis, one.which};
    redis.client.execute("DEL", key);
    const us window = 60 * second;
    CHECK(script.run("take", 10, begin, told(one, {{.units = 10, .window = window}})).granted == 10);
    const answer lower = script.run("take", 1, begin, told(one, {{.units = 5, .window = window}}));
    CHECK(lower.granted == 0);
    CHECK(lower.of[0].left == 0);
    CHECK(lower.retry() > 0);
    CHECK(lower.retry() <= 61 * second);
    if (one.exact_window) {  // of gcra's state a limit that changes makes something else
      const auto higher = told(one, {{.units = 15, .window = window}});
      CHECK(script.run("take", 5, begin + second, higher).granted == 5);
      CHECK(script.run("take", 1, begin + second, higher).granted == 0);
    }
    const answer none = script.run("take", 1, begin, told(one, {{.units = 0, .window = window}}));
    CHECK(none.granted == 0);
    CHECK(none.retry() == -1);
  }
}

TEST_CASE("the sliding log grows with its use, and shrinks to nothing") {
  const redis_rig redis;
  const tested script{redis, tn::detail::scripts::sliding_log()};
  for (const std::int64_t units : {100, 5000}) {  // the second is read in parts
    redis.client.execute("DEL", key);
    const std::vector<limit> limits{{.units = units, .window = 60 * second}};
    CHECK(script.run("take", 1, begin, limits).granted == 1);
    CHECK(redis.client.execute("STRLEN", key).integer() == 16 + 8 * 8);
    history seen;
    seen.add(begin, 1);
    us now = begin;
    support::random_bytes random;
    for (int i = 0; i < 800; ++i) {
      now += us(random.below(static_cast<std::size_t>(40 * 60 * second / units / 7)));
      const auto cost = std::int64_t(1 + random.below(20));
      const std::int64_t left = units - seen.within(60 * second, now);
      redis.client.execute("PEXPIRE", key, 30'000);
      const answer got = script.run("take", cost, now, limits);
      REQUIRE(got.granted == (cost <= left ? cost : 0));
      if (got.granted > 0) REQUIRE(redis.client.execute("PTTL", key).integer() > 40'000);
      if (got.granted > 0) seen.add(now, cost);
      REQUIRE(got.of[0].left == left - got.granted);
    }
    CHECK(redis.client.execute("STRLEN", key).integer() <= 16 + 8 * units);
  }
}

TEST_CASE("every kind: after a step back of the clock what is said comes true, and a peek writes nothing") {
  const redis_rig redis;
  for (const kind& one : kinds()) {
    INFO(one.name);
    const tested script{redis, one.which};
    redis.client.execute("DEL", key);
    const auto words = told(one, {{.units = 8, .window = 60 * second}});
    CHECK(script.run("take", 5, begin + 10 * second, words).granted == 5);
    (void)script.run("take", 3, begin + 6 * second, words);  // a little: time stands still
    const us now = begin + 7 * second;
    for (std::int64_t cost = 1; cost <= 8; ++cost) {
      const answer denied = script.run("peek", cost, now, words);
      if (denied.granted == cost) continue;  // of gcra
      CHECK(script.run("peek", cost, now + denied.retry(), words).granted == cost);
      CHECK(script.run("peek", cost, now + denied.retry() - 1, words).granted == 0);
    }
    const std::string before = script.dump();
    (void)script.run("peek", 1, begin - 86'400 * second, words);
    CHECK(script.dump() == before);
  }
}
