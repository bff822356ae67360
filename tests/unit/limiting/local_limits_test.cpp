// The limits of one process, for while Redis is away, against a model that remembers everything.

#include "limiting/local_limits.hpp"

#include "support/random_bytes.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using std::chrono::milliseconds;
using tn::detail::limit_operation;
using tn::detail::limited_view;
using tn::detail::local_limits;

const limited_view name{"acme", "/"};

/// The times of all units that were admitted and not given back.
struct model {
  std::vector<local_limits::time_point> all;

  [[nodiscard]] std::uint64_t within(milliseconds window, local_limits::time_point now) const {
    return static_cast<std::uint64_t>(std::ranges::count_if(all, [&](auto at) { return at > now - window; }));
  }
  /// The first time from now on at which no more than so many are left.
  [[nodiscard]] milliseconds falls_to(std::uint64_t units, milliseconds window, local_limits::time_point now) const {
    const std::uint64_t used = within(window, now);
    if (used <= units) return 0ms;
    return std::chrono::ceil<milliseconds>(all[all.size() - units - 1] + window - now);
  }
};

}  // namespace

TEST_CASE("the insurance decides as one who remembers every unit, with one limit and with several") {
  support::random_bytes random;
  for (int round = 0; round < 200; ++round) {
    local_limits local;
    model seen;
    auto now = local_limits::time_point{} + 1000h;
    std::vector<tn::rate_limit> limits;
    const std::size_t count = 1 + random.below(3);
    for (std::size_t i = 0; i < count; ++i) {
      limits.push_back({.limit = random.below(20), .window = milliseconds{1 + random.below(3000)}});
    }
    const milliseconds longest = std::ranges::max_element(limits, {}, &tn::rate_limit::window)->window;
    for (int i = 0; i < 120; ++i) {
      if (random.below(3) != 0) now += milliseconds{random.below(static_cast<std::size_t>(longest.count() / 6 + 1))};
      const std::uint64_t cost = random.below(6);
      const limit_operation what = std::vector{limit_operation::take, limit_operation::take, limit_operation::most,
                                               limit_operation::peek, limit_operation::refund}[random.below(5)];
      std::uint64_t expected = cost;
      for (const tn::rate_limit& each : limits) {
        const std::uint64_t used = seen.within(each.window, now);
        const std::uint64_t left = each.limit > used ? each.limit - used : 0;
        if (what == limit_operation::most) expected = std::min(expected, left);
        if ((what == limit_operation::take || what == limit_operation::peek) && cost > left) expected = 0;
      }
      if (what == limit_operation::refund) expected = std::min(cost, seen.within(longest, now));
      const tn::decision d = local.decide(what, name, cost, limits, now);
      INFO("operation " << int(what) << ", cost " << cost << ", step " << i << " of round " << round);
      REQUIRE(d.granted == expected);
      REQUIRE(d.cost == cost);
      REQUIRE(d.source == tn::decision_source::insurance);
      REQUIRE(d.allowed == (expected > 0 || cost == 0 || what == limit_operation::refund));
      if (what == limit_operation::refund) seen.all.resize(seen.all.size() - expected);
      if (what == limit_operation::take || what == limit_operation::most) {
        seen.all.insert(seen.all.end(), expected, now);
      }
      const auto states = d.limits.empty() ? std::vector<tn::limit_state>{d} : d.limits;
      REQUIRE(states.size() == limits.size());
      REQUIRE(d.decided_by < limits.size());
      const std::uint64_t wanted = what == limit_operation::most ? std::min<std::uint64_t>(cost, 1) : cost;
      for (std::size_t n = 0; n < limits.size(); ++n) {
        const auto& [limit, window, kind, burst] = limits[n];
        const std::uint64_t used = seen.within(window, now);
        REQUIRE(states[n].limit == limit);
        REQUIRE(states[n].window == window);
        REQUIRE(states[n].remaining == (limit > used ? limit - used : 0));
        REQUIRE(states[n].reset_after == seen.falls_to(0, window, now));
        const std::uint64_t fewer = std::min(used, limit);
        REQUIRE(states[n].next_in == (fewer == 0 ? 0ms : seen.falls_to(fewer - 1, window, now)));
        if (d.allowed) {
          REQUIRE(states[n].retry_after == std::optional{0ms});
        } else if (wanted > limit) {
          REQUIRE_FALSE(states[n].retry_after);
        } else {
          REQUIRE(states[n].retry_after == std::optional{seen.falls_to(limit - wanted, window, now)});
        }
      }
    }
  }
}

TEST_CASE("the insurance's share is rounded down, is at least one, and nothing of nothing") {
  const auto shares = local_limits::share_of({{.limit = 10}, {.limit = 2}, {.limit = 0}}, 3);
  REQUIRE(shares.size() == 3);
  CHECK(shares[0].limit == 3);
  CHECK(shares[1].limit == 1);
  CHECK(shares[2].limit == 0);
  CHECK(local_limits::share_of({{.limit = 7}}, 1)[0].limit == 7);
}

TEST_CASE("the insurance counts each name by itself, and forgets one when told to") {
  local_limits local;
  const std::vector<tn::rate_limit> one{{.limit = 1, .window = 1h}};
  const auto now = local_limits::time_point{} + 1000h;
  const auto take = [&](const limited_view& of) {
    return local.decide(limit_operation::take, of, 1, one, now).allowed;
  };
  CHECK(take(name));
  CHECK_FALSE(take(name));
  CHECK(take({"acme", "/b"}));
  CHECK(take({"globex", "/"}));
  CHECK_FALSE(take({"acme", "/?query"}));
  local.forget(name);
  CHECK(take(name));
  CHECK_FALSE(take({"globex", "/"}));
}
