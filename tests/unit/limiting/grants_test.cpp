// Units taken ahead, with times that the test chooses.

#include "limiting/grants.hpp"

#include <tenantry/error.hpp>
#include <tenantry/rate_limiter.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <optional>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using namespace std::chrono_literals;

const td::limit_rules rules{{{.limit = 100, .window = 60s}}, tn::limit_placement::tenant};
const td::limited_view name{"acme", "/api/kpi"};
constexpr td::grants::time_point begin{1000s};

/// Units that were asked for at this time and came 5 ms later.
void take(td::grants& ahead, std::uint64_t units, td::grants::time_point at = begin) {
  td::limit_answer answer;
  answer.of[0].left = 40;
  ahead.add(name, units, rules, answer, at, at + 5ms, ahead.changes());
}

}  // namespace

TEST_CASE("units taken ahead are used until their life is over, counted from before they were asked for") {
  td::grants ahead{{.share = 0.2, .life = 50ms}};
  CHECK_FALSE(ahead.use(name, 1, rules, begin));
  take(ahead, 5);
  const auto d = ahead.use(name, 2, rules, begin + 49ms);
  REQUIRE(d);
  CHECK(*d);
  CHECK(d->source == tn::decision_source::grant);
  CHECK(d->granted == 2);
  CHECK(d->remaining == 43);  // 40 in Redis, 3 here
  CHECK_FALSE(ahead.use(name, 1, rules, begin + 50ms));
}

TEST_CASE("no more is used than was taken, and a cost is used whole") {
  td::grants ahead{{.share = 0.2, .life = 50ms}};
  take(ahead, 5);
  CHECK(ahead.use(name, 3, rules, begin + 10ms));
  CHECK_FALSE(ahead.use(name, 3, rules, begin + 10ms));
  CHECK(ahead.use(name, 2, rules, begin + 10ms));
  CHECK_FALSE(ahead.use(name, 1, rules, begin + 10ms));
}

TEST_CASE("what is left is used with the next ones, and no longer than it would have been") {
  td::grants ahead{{.share = 0.2, .life = 50ms}};
  take(ahead, 5);
  take(ahead, 5, begin + 20ms);
  CHECK(ahead.use(name, 10, rules, begin + 49ms));
  take(ahead, 5);
  take(ahead, 5, begin + 20ms);
  CHECK_FALSE(ahead.use(name, 1, rules, begin + 50ms));
  take(ahead, 5, begin + 60ms);
  CHECK(ahead.use(name, 5, rules, begin + 109ms));
}

TEST_CASE("as many are asked for as were used the last time, twice as many where those did not last, up to the share") {
  td::grants ahead{{.share = 0.2, .life = 50ms}};
  CHECK(ahead.wanted(name, rules, begin) == 0);  // nothing for a name that is asked for once
  take(ahead, 0);
  CHECK(ahead.wanted(name, rules, begin + 10ms) == 1);
  auto at = begin + 10ms;
  for (const std::uint64_t next : {2, 4, 8, 16, 20, 20}) {
    const std::uint64_t now = next == 20 ? 16 : next / 2;
    take(ahead, now, at);
    REQUIRE(ahead.use(name, now, rules, at));
    at += 10ms;
    CHECK(ahead.wanted(name, rules, at) == next);
  }
  take(ahead, 20, at);
  CHECK(ahead.use(name, 3, rules, at));
  CHECK(ahead.wanted(name, rules, at + 50ms) == 3);
}

TEST_CASE("what is forgotten, of other limits, or of another name is not used") {
  td::grants ahead{{.share = 0.2, .life = 50ms}};
  take(ahead, 5);
  const td::limit_rules raised = rules.with({{.limit = 200, .window = 60s}});
  CHECK_FALSE(ahead.use(name, 1, raised, begin + 10ms));
  CHECK_FALSE(ahead.use({"globex", "/api/kpi"}, 1, rules, begin + 10ms));
  const std::uint64_t before = ahead.changes();
  ahead.forget(name);
  CHECK_FALSE(ahead.use(name, 1, rules, begin + 10ms));
  ahead.add(name, 5, rules, {}, begin, begin + 5ms, before);  // Redis may have forgotten them
  CHECK_FALSE(ahead.use(name, 1, rules, begin + 10ms));
}

TEST_CASE("grants that cannot be are refused, by name") {
  const auto refused = [](const tn::grant_options& how, const tn::rate_limit& limit) {
    try {
      const td::limit_rules those{{limit}, tn::limit_placement::tenant};
      return std::string{"taken: "} + std::to_string(those.most_ahead(how));
    } catch (const tn::invalid_option& why) {
      return std::string{why.what()};
    }
  };
  CHECK(refused({.share = 0}, {}).find("grant_options.share") == 0);
  CHECK(refused({.share = 1.5}, {}).find("grant_options.share") == 0);
  CHECK(refused({.life = 0ms}, {}).find("grant_options.life") == 0);
  CHECK(refused({.life = 101ms}, {.window = 1s}).find("grant_options.life") == 0);
  CHECK(refused({.life = 100ms}, {.window = 1s}) == "taken: 5");
  CHECK(refused({.life = 100ms}, {.limit = 3, .window = 1s}) == "taken: 1");
  // Five units take half a second.
  CHECK(refused({.life = 51ms}, {.limit = 10, .window = 1s, .kind = tn::limit_kind::gcra, .burst = 5})
            .find("grant_options.life") == 0);
}

TEST_CASE("of a burst that has to be whole nothing is taken ahead") {
  const td::limit_rules smooth{{{.limit = 10, .window = 1s, .kind = tn::limit_kind::gcra}},
                               tn::limit_placement::tenant};
  CHECK(smooth.may_take_ahead(9, 100ms));
  CHECK_FALSE(smooth.may_take_ahead(10, 100ms));
  CHECK(smooth.may_take_ahead(11, 100ms));  // is never admitted
  CHECK(rules.may_take_ahead(100, 50ms));
}
