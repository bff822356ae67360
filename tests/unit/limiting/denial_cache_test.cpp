// What is remembered of denials, with times that the test chooses.

#include "limiting/denial_cache.hpp"

#include <tenantry/error.hpp>
#include <tenantry/rate_limiter.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace {

namespace tn = tenantry;
namespace td = tenantry::detail;
using namespace std::chrono_literals;
using td::limit_operation;

const td::limit_rules rules{{{.limit = 10, .window = 60s}}, tn::limit_placement::tenant};
const td::limited_view name{"acme", "/api/kpi"};
constexpr td::denial_cache::time_point begin{1000s};

td::limit_answer denial(std::chrono::microseconds retry) {
  td::limit_answer answer;
  answer.of[0] = {.left = 2, .retry = retry, .next = retry / 2, .reset = retry * 2};
  return answer;
}

/// A denial that was asked for at the beginning and came 10 ms later.
void deny(td::denial_cache& cache, std::chrono::microseconds retry, std::uint64_t cost = 5) {
  cache.add(name, cost, rules, denial(retry), begin, begin + 10ms, cache.changes(name));
}
std::optional<tn::decision> known(td::denial_cache& cache, std::chrono::microseconds since, std::uint64_t cost = 5,
                                  limit_operation what = limit_operation::take) {
  return cache.find(name, what, cost, rules, begin + since);
}

}  // namespace

TEST_CASE("a denial is known until Redis would admit, counted from before it was asked") {
  td::denial_cache cache{{.max_age = 1h}};
  CHECK_FALSE(known(cache, 20ms));
  deny(cache, 500ms);
  CHECK(known(cache, 499ms));
  CHECK(known(cache, 499'999us));
  CHECK_FALSE(known(cache, 500ms));
}

TEST_CASE("what a known denial says of the future is counted from when it came, so that waiting it out is enough") {
  td::denial_cache cache{{.max_age = 1h}};
  deny(cache, 500ms);
  const auto d = known(cache, 110ms);
  REQUIRE(d);
  CHECK_FALSE(*d);
  CHECK(d->source == tn::decision_source::denial_cache);
  CHECK(d->cost == 5);
  CHECK(d->granted == 0);
  CHECK(d->remaining == 2);
  CHECK(d->retry_after == std::optional{400ms});
  CHECK(d->next_in == 150ms);
  CHECK(d->reset_after == 900ms);
  CHECK(known(cache, 110'001us)->retry_after == std::optional{400ms});  // rounded up
  CHECK(known(cache, 5ms)->retry_after == std::optional{500ms});        // another thread's clock, a little behind
}

TEST_CASE("a denial is known for its own cost, and for as much as there is when nothing is left") {
  td::denial_cache cache{{.max_age = 1h}};
  deny(cache, 500ms, 5);
  CHECK_FALSE(known(cache, 20ms, 4));
  CHECK_FALSE(known(cache, 20ms, 6));
  CHECK_FALSE(known(cache, 20ms, 5, limit_operation::most));
  deny(cache, 400ms, 1);
  CHECK(known(cache, 20ms, 5));
  CHECK(known(cache, 20ms, 1));
  const auto most = known(cache, 20ms, 7, limit_operation::most);
  REQUIRE(most);
  CHECK(most->cost == 7);
  deny(cache, 600ms, 3);  // takes the place of the one that ends first
  CHECK(known(cache, 20ms, 3));
  CHECK(known(cache, 20ms, 5));
  CHECK_FALSE(known(cache, 20ms, 1));
}

TEST_CASE("a denial is not known for longer than its greatest age, also one for ever") {
  td::denial_cache cache{{.max_age = 50ms}};
  deny(cache, 500ms, 1);
  deny(cache, -1us, 2);
  CHECK(known(cache, 49ms, 1)->retry_after == std::optional{461ms});
  CHECK_FALSE(known(cache, 49ms, 2)->retry_after);
  CHECK_FALSE(known(cache, 50ms, 1));
  CHECK_FALSE(known(cache, 50ms, 2));
}

TEST_CASE("what is forgotten stays forgotten, also when a denial from before comes later") {
  td::denial_cache cache{{.max_age = 1h}};
  deny(cache, 500ms);
  const std::uint64_t before = cache.changes(name);
  cache.forget(name);
  CHECK_FALSE(known(cache, 20ms));
  cache.add(name, 5, rules, denial(500ms), begin, begin + 10ms, before);
  CHECK_FALSE(known(cache, 20ms));
  deny(cache, 500ms);
  CHECK(known(cache, 20ms));
}

TEST_CASE("a denial of other limits, of another name, or that came too late is not known") {
  td::denial_cache cache{{.max_age = 1h}};
  deny(cache, 500ms);
  const td::limit_rules raised = rules.with({{.limit = 11, .window = 60s}});
  CHECK_FALSE(cache.find(name, limit_operation::take, 5, raised, begin + 20ms));
  CHECK_FALSE(cache.find({"globex", "/api/kpi"}, limit_operation::take, 5, rules, begin + 20ms));
  CHECK_FALSE(cache.find({"acme", "/api/kp"}, limit_operation::take, 5, rules, begin + 20ms));
  CHECK(cache.find({"acme", "/api/kpi?page=2"}, limit_operation::take, 5, rules, begin + 20ms));
  deny(cache, 9ms, 7);
  CHECK_FALSE(known(cache, 1ms, 7));
}

TEST_CASE("of many names those used last are known") {
  td::denial_cache cache{{.names = 16, .max_age = 1h}};
  std::size_t left = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::string path = std::to_string(i);
    cache.add({"acme", path}, 1, rules, denial(500ms), begin, begin, cache.changes({"acme", path}));
    CHECK(cache.find({"acme", path}, limit_operation::take, 1, rules, begin));
  }
  for (int i = 0; i < 1000; ++i) {
    if (cache.find({"acme", std::to_string(i)}, limit_operation::take, 1, rules, begin)) ++left;
  }
  CHECK(left <= 16);
  CHECK_THROWS_AS(td::denial_cache{{.names = 0}}, tn::invalid_option);
  CHECK_THROWS_AS(td::denial_cache{{.max_age = 0ms}}, tn::invalid_option);
}
