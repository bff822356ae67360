// How a decision is told to an HTTP client, to the byte.

#include <tenantry/rate_decision.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using fields = std::vector<std::pair<std::string, std::string>>;

tn::decision denied() {
  tn::decision d;
  d.limit = 100;
  d.window = 60s;
  d.remaining = 0;
  d.retry_after = 11'001ms;
  d.next_in = 11'001ms;
  d.reset_after = 59'999ms;
  d.cost = 1;
  return d;
}

tn::decision admitted() {
  tn::decision d = denied();
  d.allowed = true;
  d.granted = 1;
  d.remaining = 7;
  d.retry_after = 0ms;
  return d;
}

}  // namespace

TEST_CASE("Retry-After is whole seconds, rounded up, and only where waiting helps") {
  CHECK(denied().headers() == fields{{"Retry-After", "12"}});
  CHECK(admitted().headers().empty());
  CHECK(denied().headers(tn::header_style::none).empty());
  tn::decision soon = denied();
  soon.retry_after = 1ms;
  CHECK(soon.headers() == fields{{"Retry-After", "1"}});
  soon.retry_after = std::nullopt;
  CHECK(soon.headers().empty());
}

TEST_CASE("the fields of the IETF draft name the policy, what is left and when more is") {
  CHECK(admitted().headers(tn::header_style::ietf) ==
        fields{{"RateLimit-Policy", "\"default\";q=100;w=60"}, {"RateLimit", "\"default\";r=7;t=12"}});
  CHECK(denied().headers(tn::header_style::ietf) == fields{{"RateLimit-Policy", "\"default\";q=100;w=60"},
                                                           {"RateLimit", "\"default\";r=0;t=12"},
                                                           {"Retry-After", "12"}});
  tn::decision both = admitted();
  both.limits = {{.limit = 20, .window = 1500ms, .remaining = 3, .next_in = 200ms},
                 {.limit = 1000, .window = 1h, .remaining = 900, .next_in = 0ms}};
  CHECK(both.headers(tn::header_style::ietf) == fields{{"RateLimit-Policy", "\"1\";q=20, \"2\";q=1000;w=3600"},
                                                       {"RateLimit", "\"1\";r=3;t=1, \"2\";r=900;t=0"}});
}

TEST_CASE("the older fields give the limit, what is left, and the seconds until all is") {
  CHECK(admitted().headers(tn::header_style::x_ratelimit) ==
        fields{{"X-RateLimit-Limit", "100"}, {"X-RateLimit-Remaining", "7"}, {"X-RateLimit-Reset", "60"}});
  CHECK(denied().headers(tn::header_style::x_ratelimit).back() ==
        std::pair<std::string, std::string>{"Retry-After", "12"});
}

TEST_CASE("where nobody counted there is nothing to tell but when to try again") {
  for (const auto style : {tn::header_style::ietf, tn::header_style::x_ratelimit, tn::header_style::retry_after}) {
    tn::decision open;
    open.allowed = true;
    open.source = tn::decision_source::fail_open;
    CHECK(open.headers(style).empty());
    tn::decision closed;
    closed.source = tn::decision_source::fail_closed;
    closed.retry_after = 1s;
    CHECK(closed.headers(style) == fields{{"Retry-After", "1"}});
  }
  CHECK(tn::to_string(tn::decision_source::fail_closed) == "fail_closed");
}
