// Loads that no caller waits for or that Redis does not know of: renewals, at a fixed age and at random, and fetches
// apart from Redis.

#include "machine_bench.hpp"
#include "support/random_bytes.hpp"

#include <tenantry/detail/ttl.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace machine_test;

namespace {

using Catch::Approx;
using std::chrono::microseconds;

const std::string theirs = "someoneelse " + now_stamp;
const texts look_with_life{"PTTL " + value_key, "GET " + value_key, "GET " + stamp_name};
const std::string other_stamp = stamp('x', '2', '3');
const tenantry::error undelivered{tenantry::errc::unreachable, tenantry::execution::not_sent, "not delivered yet"};

const std::string fresh = value("v", {.ttl = 100s});

/// Ends what is left of decoding. True when the machine has ended, without a load and without a wait.
bool ends(bench& on, step next, bool decodes = true) {
  if (next == step::decode) next = on.tested.decoded(decodes);
  return next == step::answer || next == step::give_up;
}

/// A renewal below 25 s, up to the request for its lease.
void renew(bench& on, const std::string& bytes = fresh) {
  REQUIRE(on.tested.begin_refresh(25'000) == step::ask);
  REQUIRE(on.answer({number(25'000), text(bytes), text(now_stamp)}) == step::decode);
  REQUIRE(on.tested.decoded(true) == step::ask);
}
constexpr fetch_rules renews{.refresh_ahead = 0.75};

/// A value of 1000 s that took 1 s to load, or so.
std::string loaded_in(microseconds took, std::chrono::milliseconds ttl = 1000s, std::chrono::milliseconds stale = 0ms) {
  return seal({.stamp = *tenant_stamp::parse(now_stamp), .stale = stale, .ttl = ttl, .computed_at = 77s, .took = took},
              value_key, "v");
}

/// What is refreshed in, in ms: nothing where the value with this life is served without.
std::optional<std::int64_t> drawn(const fetch_rules& rules, const std::string& bytes, std::int64_t life) {
  bench on{rules};
  REQUIRE(on.begin() == step::ask);
  REQUIRE(on.answer({number(life), text(bytes), text(now_stamp)}) == step::decode);
  const step next = on.tested.decoded(true);
  if (next == step::answer) {
    REQUIRE_FALSE(on.tested.refreshing());
    return std::nullopt;
  }
  REQUIRE(next == step::ask);
  REQUIRE(on.tested.refreshing());
  const std::string enough = on.tested.requests().front().words().at(8);
  REQUIRE(on.asks() == texts{on.acquire("load", now_stamp, enough)});
  REQUIRE(on.tested.refresh_below() == std::stoll(enough));
  return std::stoll(enough);
}

}  // namespace

TEST_CASE("a renewal looks first, and asks for the lease of a fresh value with at most so much life left") {
  for (const std::int64_t below : {10'000, 25'000, 60'000}) {  // whatever the rules would say
    for (const std::int64_t stale : {0, 3'600'000}) {
      for (const std::int64_t left : {below, below + 1, std::int64_t{1}}) {
        INFO("below " << below << ", left " << left << ", stale " << stale);
        const std::chrono::milliseconds stale_for{stale};
        const std::string bytes = value("v", {.stale = stale_for, .ttl = 100s});
        bench on{{.stale_for = stale_for, .refresh_ahead = 0.75}};
        REQUIRE(on.tested.begin_refresh(below) == step::ask);
        CHECK(on.asks() == look_with_life);
        const step next = on.answer({number(stale + left), text(bytes), text(now_stamp)});
        if (left > below) {
          CHECK(ends(on, next));
          CHECK(on.trips == 1);
          CHECK_FALSE(on.tested.asks_for_lease());
          continue;
        }
        REQUIRE(next == step::decode);
        REQUIRE(on.tested.decoded(true) == step::ask);
        CHECK(on.asks() == texts{on.acquire("load", now_stamp, std::to_string(below))});
        CHECK(on.tested.refreshing());
      }
    }
  }
}

TEST_CASE("a renewal that gets the lease loads and stores") {
  bench on{renews};
  renew(on);
  REQUIRE(on.lead_from_here() == step::load);
  CHECK(on.tested.leads());
  CHECK(on.tested.has_candidate());
  CHECK(on.tested.payload() == "v");
  REQUIRE(on.tested.loaded(outcome()) == step::ask);
  CHECK(on.store_answer(true) == step::answer);
  CHECK(on.tested.stored());
  CHECK(on.tested.source() == fetch_source::computed);

  bench fails{renews};
  renew(fails);
  fails.lead_from_here();
  REQUIRE(fails.tested.load_failed() == step::ask);
  CHECK(fails.asks().front() ==
        "release " + lease_key + ' ' + failed_key + ' ' + fails.token() + ' ' + now_stamp + ' ' + now_stamp + " 1000");
  CHECK(ends(fails, fails.answer({number(1), number(20'000), text(fresh), text(now_stamp)})));
}

TEST_CASE("a renewal looks at tags as any fetch does") {
  const std::string bytes = value("v", {.stamp = stamp('1', '2', 'x'), .ttl = 100s, .tags = {tagged("a", 'a', 'b')}});
  for (const char hard : {'a', 'x'}) {
    for (const char soft : {'b', 'x'}) {
      bench on{renews};
      REQUIRE(on.tested.begin_refresh(25'000) == step::ask);
      REQUIRE(on.answer({number(25'000), text(bytes), text(now_stamp)}) == step::ask);
      CHECK(on.asks() == texts{"MGET " + stamp_name + ":tag:a"});
      const step next = on.answer({list({text(tag_text(hard, soft))})});
      if (hard == 'a' && soft == 'b') {
        REQUIRE(next == step::decode);
        CHECK(on.tested.decoded(true) == step::ask);
        CHECK(on.tested.asks_for_lease());
      } else {
        CHECK(ends(on, next));
        CHECK(on.trips == 2);
      }
    }
  }
  bench silent{renews};
  REQUIRE(silent.tested.begin_refresh(25'000) == step::ask);
  silent.answer({number(25'000), text(bytes), text(now_stamp)});
  CHECK(ends(silent, silent.no_answer()));
}

TEST_CASE("a renewal of what is not fresh ends without a load, a wait or a lease") {
  struct row {
    const char* what;
    std::vector<reply> look;  // none: silence
    bool decodes = true;
  };
  const std::string kept = value("v", {.stale = 1h, .ttl = 100s});
  for (const std::chrono::milliseconds stale_for : {0ms, std::chrono::milliseconds{1h}}) {
    for (const row& each :
         {row{"missing", {number(-2), nil(), text(now_stamp)}}, row{"missing, no stamp", {number(-2), nil(), nil()}},
          row{"stale", {number(1000), text(kept), text(now_stamp)}},
          row{"expired softly", {number(5000), text(fresh), text(stamp('1', 'x', '3'))}},
          row{"dead", {number(5000), text(fresh), text(other_stamp)}},
          row{"without a stamp", {number(5000), text(fresh), nil()}},
          row{"undecodable", {number(5000), text(fresh), text(now_stamp)}, false},
          row{"defect", {number(5000), text("x"), text(now_stamp)}},
          row{"of another type", {number(5000), wrong_type, text(now_stamp)}},
          row{"without an end", {number(-1), text(fresh), text(now_stamp)}},
          row{"refused", {number(5000), fault("LOADING"), text(now_stamp)}}, row{"silent", {}}}) {
      bench on{{.stale_for = stale_for, .refresh_ahead = 0.75}};
      INFO(each.what << (stale_for > 0ms ? ", kept" : ""));
      REQUIRE(on.tested.begin_refresh(25'000) == step::ask);
      CHECK(ends(on, each.look.empty() ? on.no_answer() : on.answer(each.look), each.decodes));
      CHECK(on.trips == 1);
      CHECK_FALSE(on.tested.leads());
      CHECK_FALSE(on.tested.holds_lease());
    }
  }
}

TEST_CASE("a renewal that does not get the lease ends without a load, a wait or another request") {
  for (const bool decodes : {true, false}) {
    for (const std::chrono::milliseconds stale_for : {0ms, std::chrono::milliseconds{1h}}) {
      for (const reply& refusal :
           {lease_busy(theirs), lease_busy("someone " + other_stamp), held_busy(theirs), marker(500),
            lease_hit(value("newer"), 300'000), lease_hit("x", 300'000), fault("NOPERM no")}) {
        bench on{{.stale_for = stale_for, .refresh_ahead = 0.75}};
        INFO((refusal.is_error() ? "an error" : refusal[0].str()) << decodes);
        REQUIRE(on.tested.begin_refresh(25'000) == step::ask);
        on.answer(
            {number(stale_for.count() + 25'000), text(value("v", {.stale = stale_for, .ttl = 100s})), text(now_stamp)});
        REQUIRE(on.tested.decoded(true) == step::ask);
        CHECK(ends(on, on.answer({refusal}), decodes));
        CHECK(on.trips == 2);
        CHECK_FALSE(on.tested.holds_lease());
        CHECK_FALSE(on.tested.leads());
      }
    }
  }
  bench silent{renews};
  renew(silent);
  CHECK(ends(silent, silent.no_answer()));
  CHECK_FALSE(silent.tested.leads());
}

TEST_CASE("the margin of an early refresh is -ln(1 - unit) times beta times the time that the load took, in ms") {
  for (const double times : {0.0, 0.1, 0.5, 1.0, 3.0, 10.0}) {
    const double unit = 1 - std::exp(-times);
    CHECK(early_margin(1s, 1, unit) == Approx(1000 * times).margin(1e-9));
    CHECK(early_margin(250us, 1, unit) == Approx(0.25 * times).margin(1e-9));
    CHECK(early_margin(20s, 0.5, unit) == Approx(10'000 * times).margin(1e-9));
    CHECK(early_margin(1s, 4, unit) == Approx(4000 * times).margin(1e-9));
    CHECK(early_margin(1s, 0, unit) == 0);
    CHECK(early_margin(0us, 1, unit) == 0);
  }
  CHECK(early_margin(1s, 1, 0.5) == Approx(693.147181));
  CHECK(early_margin(1s, 1, std::nextafter(1.0, 0.0)) == Approx(36'736.8).epsilon(0.001));  // the most
}

TEST_CASE("the margin is at least what is left with the probability exp(-left / took)") {
  support::random_bytes random;
  constexpr int draws = 100'000;
  for (const double times : {0.1, 0.5, 1.0, 2.0, 3.0}) {
    int due = 0;
    for (int i = 0; i < draws; ++i) {
      const double unit = static_cast<double>(random.below(1ULL << 53U)) / static_cast<double>(1ULL << 53U);
      if (early_margin(2s, 1, unit) >= 2000 * times) ++due;
    }
    const double share = std::exp(-times);
    INFO("left " << times << " times as long");
    CHECK(static_cast<double>(due) / draws == Approx(share).margin(6 * std::sqrt(share * (1 - share) / draws)));
  }
}

TEST_CASE("fetches refresh at random, the likelier the less is left of what the load took, and say what they drew") {
  constexpr int draws = 10'000;
  struct row {
    double beta;
    std::int64_t stale;
    double times;
  };
  for (const row& each : {row{1, 0, 1}, row{1, 0, 3}, row{1, 3'600'000, 1}, row{3, 0, 3}}) {
    const fetch_rules rules{.stale_for = std::chrono::milliseconds{each.stale}, .refresh_beta = each.beta};
    const std::string bytes = loaded_in(1s, 1000s, rules.stale_for);
    const auto left = static_cast<std::int64_t>(1000 * each.times);
    int due = 0;
    int earlier = 0;  // by more than once what it took
    for (int i = 0; i < draws; ++i) {
      const auto enough = drawn(rules, bytes, each.stale + left);
      if (!enough) continue;
      ++due;
      REQUIRE(*enough >= left);
      if (static_cast<double>(*enough - left) >= 1000 * each.beta) ++earlier;
    }
    const auto near = [](double share, int of) {
      return Approx(share).margin(0.001 + 6 * std::sqrt(share * (1 - share) / of));
    };
    INFO("beta " << each.beta << ", left " << left << ", stale " << each.stale);
    CHECK(static_cast<double>(due) / draws == near(std::exp(-each.times / each.beta), draws));
    CHECK(static_cast<double>(earlier) / due == near(std::exp(-1), due));
  }
}

TEST_CASE("a huge beta refreshes always, and never earlier than the ttl") {
  for (const microseconds took : {1'000'000us, microseconds{24h * 365}, microseconds{std::int64_t{1} << 62U}}) {
    for (const double beta : {1e12, 1e300, std::numeric_limits<double>::max()}) {
      CHECK(drawn({.refresh_beta = beta}, loaded_in(took, 100s), 100'000) == 100'000);
      CHECK(drawn({.refresh_beta = beta}, loaded_in(took, 100s), 1) == 100'000);
      // A value that lives for longer than it says is not due before that.
      CHECK_FALSE(drawn({.refresh_beta = beta}, loaded_in(took, 100s), 100'001));
    }
  }
}

TEST_CASE("without beta, a time that the load took or an end of its life no value is refreshed at random") {
  for (int i = 0; i < 1000; ++i) {
    REQUIRE_FALSE(drawn({.stale_for = 1h}, loaded_in(1h, 100s, 1h), 3'600'001));
    REQUIRE_FALSE(drawn({.refresh_ahead = 0.75}, loaded_in(1h, 100s), 25'001));
    REQUIRE_FALSE(drawn({.refresh_beta = 1}, loaded_in(0us, 100s), 1));
    REQUIRE_FALSE(drawn({.refresh_beta = std::numeric_limits<double>::max()}, loaded_in(0us, 100s), 1));
    REQUIRE_FALSE(drawn({.refresh_beta = 1000}, loaded_in(1h, 100s), -1));
  }
}

TEST_CASE("of a refresh at a fixed age and one at random the earlier counts") {
  const fetch_rules mostly_fixed{.refresh_ahead = 0.75, .refresh_beta = 1e-9};
  CHECK(drawn(mostly_fixed, loaded_in(1s, 100s), 25'000) == 25'000);
  CHECK_FALSE(drawn(mostly_fixed, loaded_in(1s, 100s), 25'001));
  CHECK(drawn({.refresh_ahead = 0.75, .refresh_beta = 1e9}, loaded_in(1s, 100s), 99'000) == 100'000);

  constexpr int draws = 2000;
  int earlier = 0;
  for (int i = 0; i < draws; ++i) {
    const auto enough = drawn({.refresh_ahead = 0.75, .refresh_beta = 1}, loaded_in(25s, 100s), 20'000);
    REQUIRE(enough);
    REQUIRE(*enough >= 25'000);
    if (*enough > 25'000) ++earlier;
  }
  CHECK(static_cast<double>(earlier) / draws == Approx(std::exp(-1)).margin(0.065));  // six deviations
}

TEST_CASE("a fetch apart asks nothing, and what its process's leader loads is answered without being stored") {
  for (const bool absent : {false, true}) {
    bench on{{.stale_for = 1h, .refresh_ahead = 0.5}};
    REQUIRE(on.tested.begin_apart("after 3", undelivered) == step::board);
    CHECK(on.tested.identity() == "after 3");
    CHECK(on.tested.may_lead());
    REQUIRE(on.board(boarding::leads) == step::load);
    CHECK(on.tested.leads());
    CHECK_FALSE(on.tested.holds_lease());
    CHECK_FALSE(on.tested.has_candidate());
    CHECK_FALSE(on.tested.refreshing());
    load_outcome what = outcome("new", {"a"});
    what.absent = absent;
    CHECK(on.tested.loaded(std::move(what)) == step::answer);
    CHECK(on.tested.source() == fetch_source::computed);
    CHECK_FALSE(on.tested.stored());
    CHECK_FALSE(on.tested.fenced());
    CHECK_FALSE(on.tested.computed_at());
    REQUIRE(on.tested.failure());
    CHECK(on.tested.failure()->code() == tenantry::errc::unreachable);
    CHECK(on.tested.failure()->execution() == tenantry::execution::not_sent);
    CHECK(std::string{on.tested.failure()->what()} == undelivered.what());
    CHECK(on.tested.requests().empty());
  }
}

TEST_CASE("a fetch apart never looks for a copy, which may be what was to be removed") {
  bench fails{{.stale_for = 1h}};
  REQUIRE(fails.tested.begin_apart("after 3", undelivered) == step::board);
  fails.board(boarding::leads);
  CHECK(fails.tested.load_failed() == step::give_up);
  CHECK(fails.tested.reason() == fetch_failure::loader);

  for (const bool hard : {false, true}) {
    fetch_rules rules{.stale_for = 1h, .soft_timeout = 10ms};
    if (hard) rules.hard_timeout = 100ms;
    const auto follow = [](bench& on) {
      REQUIRE(on.tested.begin_apart("after 3", undelivered) == step::board);
      REQUIRE(on.board(boarding::follows) == step::await_flight);
    };
    bench on{rules};
    follow(on);
    CHECK(on.tested.wait_until() == on.now + (hard ? 100ms : rules.lease_wait));
    CHECK(on.tested.waited() == (hard ? step::give_up : step::load));
    if (hard) CHECK(on.tested.reason() == fetch_failure::timeout);

    bench gets{rules};
    follow(gets);
    CHECK(gets.tested.flight_ended(true) == step::answer);
    CHECK(gets.tested.source() == fetch_source::flight);

    bench gets_nothing{rules};
    follow(gets_nothing);
    CHECK(gets_nothing.tested.flight_ended(false) == step::give_up);
    CHECK(gets_nothing.tested.reason() == fetch_failure::flight);
  }
  bench circle;
  REQUIRE(circle.tested.begin_apart("after 3", undelivered) == step::board);
  REQUIRE(circle.board(boarding::may_not_wait) == step::load);
  CHECK(circle.tested.loaded(outcome()) == step::answer);
  CHECK_FALSE(circle.tested.stored());
}
