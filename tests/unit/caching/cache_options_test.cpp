// Options that cannot be kept are refused by name, before anything is asked of Redis.

#include "support/kpi.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/cache_options.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/load_context.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

using text_cache = tn::cache<std::string>;

// Designated initializers need an aggregate; a flight and its waiters need the cache to stay where it is.
static_assert(std::is_aggregate_v<tn::cache_options>);
static_assert(!std::is_copy_constructible_v<text_cache> && !std::is_move_constructible_v<text_cache>);
static_assert(std::is_copy_constructible_v<tn::cached<std::string>>);
static_assert(std::is_same_v<decltype(*std::declval<tn::cached<std::string>&>()), const std::string&>);

void refused(const tn::cache_options& options, const std::string& field) {
  const tn::client nowhere{"redis://127.0.0.1:1"};
  CHECK_THROWS_MATCHES((text_cache{nowhere, options}), tn::invalid_option, MessageMatches(ContainsSubstring(field)));
  CHECK_THROWS_MATCHES((text_cache{nowhere, options, [] { return std::string{}; }}), tn::invalid_option,
                       MessageMatches(ContainsSubstring(field)));
}

void accepted(const tn::cache_options& options) {
  const tn::client nowhere{"redis://127.0.0.1:1"};
  CHECK_NOTHROW(text_cache{nowhere, options});
}

}  // namespace

TEST_CASE("a ttl below 1 ms is refused by name") {
  refused({.ttl = 0ms}, "ttl");
  refused({.ttl = -1ms}, "ttl");
  refused({.ttl = std::chrono::milliseconds::min()}, "ttl");
  accepted({.ttl = 1ms});
}

TEST_CASE("a jitter that is not from 0 to below 1 is refused by name") {
  for (const double jitter :
       {1.0, 1.5, -0.1, -std::numeric_limits<double>::denorm_min(), std::numeric_limits<double>::infinity(),
        -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    INFO("jitter " << jitter);
    refused({.jitter = jitter}, "jitter");
  }
  accepted({.jitter = 0.0});
  accepted({.jitter = std::nextafter(1.0, 0.0)});
}

TEST_CASE("a redis_timeout below 1 ms is refused by name") {
  refused({.redis_timeout = 0ms}, "redis_timeout");
  refused({.redis_timeout = -5ms}, "redis_timeout");
  accepted({.redis_timeout = 1ms});
  accepted({.redis_timeout = std::nullopt});
  accepted({.redis_timeout = tn::no_timeout});
}

TEST_CASE("a timeout of a load that is below 1 ms, or needs what is not there, is refused by name") {
  const tn::executor some = tn::inline_executor();
  for (const auto span : {0ms, -1ms, std::chrono::milliseconds::min(), std::chrono::milliseconds::max()}) {
    refused({.stale_for = 1h, .executor = some, .soft_timeout = span}, "soft_timeout");
    refused({.executor = some, .hard_timeout = span}, "hard_timeout");
  }
  refused({.stale_for = 1h, .soft_timeout = 1s}, "soft_timeout needs an executor");
  refused({.executor = some, .soft_timeout = 1s}, "soft_timeout needs stale_for");
  refused({.hard_timeout = 1s}, "hard_timeout needs an executor");
  accepted({.stale_for = 1h, .executor = some, .soft_timeout = 1ms, .hard_timeout = 1ms});
  accepted({.executor = some, .hard_timeout = 1h});
  accepted({.executor = some});
}

TEST_CASE("a refresh_ahead or refresh_beta out of range is refused by name") {
  for (const double wrong : {-0.1, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                             std::numeric_limits<double>::quiet_NaN()}) {
    INFO(wrong);
    refused({.refresh_ahead = wrong}, "refresh_ahead");
    refused({.refresh_beta = wrong}, "refresh_beta");
  }
  refused({.refresh_ahead = 1.0}, "refresh_ahead");
  refused({.refresh_beta = std::nextafter(1000.0, 1001.0)}, "refresh_beta");
  refused({.refresh_beta = 1.0, .envelope = tn::envelope::bare}, "refresh_beta");
  accepted({.refresh_ahead = std::nextafter(1.0, 0.0), .refresh_beta = 1000.0});
}

TEST_CASE("the defaults are five minutes, a tenth of jitter, a readable header and the client's timeout") {
  const tn::cache_options options;
  CHECK(options.ttl == 5min);
  CHECK(options.jitter == 0.1);
  CHECK(options.envelope == tn::envelope::header);
  CHECK_FALSE(options.redis_timeout.has_value());
  accepted(options);
}

TEST_CASE("a cache counts nothing before it is used") {
  const tn::client nowhere{"redis://127.0.0.1:1"};
  const text_cache cache{nowhere};
  const tn::cache_stats stats = cache.stats();
  CHECK(stats.hits + stats.misses + stats.undecodable + stats.wrong_type + stats.read_failures == 0);
  CHECK(stats.loads + stats.load_failures + stats.waits + stats.fenced == 0);
  CHECK(stats.stores + stats.store_failures + stats.encode_failures == 0);
}

TEST_CASE("a fetch without any loader is refused, and says what is missing") {
  const tn::client nowhere{"redis://127.0.0.1:1"};
  text_cache cache{nowhere};
  CHECK_THROWS_MATCHES(cache.fetch(support::portfolio_kpi(support::acme)), tn::invalid_option,
                       MessageMatches(ContainsSubstring("loader")));
  CHECK(cache.stats().read_failures == 0);
}

TEST_CASE("a loader chooses no ttl unless it says so") {
  tn::load_context context;
  CHECK_FALSE(context.chosen_ttl().has_value());
  context.ttl(90s);
  CHECK(context.chosen_ttl() == 90s);
  context.do_not_store();
  REQUIRE(context.chosen_ttl().has_value());
  CHECK(*context.chosen_ttl() <= 0ms);
}
