// How much a near cache keeps and for how long, whatever the server tells.

#include "support/background.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/near_rig.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/error.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using std::chrono::steady_clock;
using support::acme;
using support::bare_near_by;
using support::check_kept_by_reading;
using support::comes_near;
using support::eventually;
using support::gateway_health;
using support::is_near;
using support::kpi;
using support::near_by;
using support::portfolio_kpi;
using support::redis_rig;
using support::site;
using support::text_at;
using support::tracks;

constexpr std::size_t KiB = 1024;

/// Strings, each of which says that it takes a lot of memory.
struct heavy_codec : tn::string_codec {
  [[nodiscard]] static std::size_t memory(std::string_view) { return 20 * KiB; }
};

/// The server deletes nothing that nobody asks for, so that nothing is told of what expires.
class silent_expiry {
 public:
  silent_expiry() : server_{{.arguments = {"--enable-debug-command", "yes"}}}, direct_{server_.unix_url()} {
    direct_.execute("DEBUG", "SET-ACTIVE-EXPIRE", 0);
  }
  [[nodiscard]] tn::client_options options() const {
    auto how = tn::client_options::from_url(server_.url());
    how.timeout = 20s;
    return how;
  }
  [[nodiscard]] const tn::client& direct() const { return direct_; }

 private:
  tn::testing::redis_server server_;
  tn::client direct_;
};

}  // namespace

TEST_CASE("near: options out of range are refused, by name") {
  support::need_redis();
  const tn::client redis{redis_rig::server().url()};
  const auto refused = [&](tn::near_options how) {
    return support::failure_of([&] { tn::cache<kpi>{redis, near_by({}, how)}; });
  };
  for (const std::size_t bytes : {std::size_t{0}, 64 * KiB - 1}) {
    const auto fault = refused({.max_bytes = bytes});
    CHECK(fault.code == tn::errc::invalid_option);
    CHECK(fault.text.find("cache_options.near.max_bytes") != std::string::npos);
  }
  for (const auto age : {-1ms, 0ms, std::chrono::milliseconds{24h} + 1ms, std::chrono::milliseconds::max()}) {
    const auto fault = refused({.max_age = age});
    CHECK(fault.code == tn::errc::invalid_option);
    CHECK(fault.text.find("cache_options.near.max_age") != std::string::npos);
  }
  CHECK_NOTHROW(tn::cache<kpi>{redis, near_by({}, {.max_bytes = 64 * KiB, .max_age = 1ms})});
  CHECK_NOTHROW(tn::cache<kpi>{redis, near_by({}, {.max_bytes = 64 * KiB, .max_age = 24h})});
  try {  // more than there is: refused, or as good as no bound
    const tn::cache<kpi> boundless{redis, near_by({}, {.max_bytes = SIZE_MAX})};
  } catch (const tn::invalid_option& fault) {
    CHECK(std::string_view{fault.what()}.find("cache_options.near.max_bytes") != std::string_view::npos);
  }
}

TEST_CASE("near: memory stays within max_bytes, what makes room is counted, and all values are right") {
  const support::must_end ends{100s};
  const redis_rig redis;
  tn::cache<std::string> cache{redis.client, bare_near_by({.max_bytes = 256 * KiB, .max_age = 1h})};
  REQUIRE(tracks(cache));
  constexpr int count = 3000;
  std::vector<tn::command> all;
  for (int i = 0; i < count; ++i)
    all.emplace_back("SET", gateway_health(acme, i), std::to_string(i) + std::string(500, 'x'));
  (void)redis.client.execute_all(all);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < count; ++i) {
      const auto found = cache.get(gateway_health(acme, i));
      REQUIRE(found.has_value());
      REQUIRE(std::stoi(**found) == i);
      REQUIRE(cache.near_stats().bytes <= 320 * KiB);  // some of it waits to be destroyed
    }
  }
  const auto seen = cache.near_stats();
  CHECK(seen.evictions > 0);
  CHECK(seen.values > 0);
  CHECK(seen.values < 512);  // of 500 bytes each
  CHECK(seen.bytes >= seen.values * 500);
}

TEST_CASE("near: what is asked for again and again stays, while many others pass through once") {
  const support::must_end ends{100s};
  const redis_rig redis;
  tn::cache<std::string> cache{redis.client, bare_near_by({.max_bytes = 256 * KiB, .max_age = 1h})};
  REQUIRE(tracks(cache));
  std::vector<tn::command> all;
  for (int i = 0; i < 2000; ++i) all.emplace_back("SET", gateway_health(acme, i), std::string(500, 'x'));
  (void)redis.client.execute_all(all);
  int hits = 0;
  for (int i = 20; i < 2000; ++i) {
    (void)cache.get(gateway_health(acme, i));
    if (is_near(cache, gateway_health(acme, i % 20))) ++hits;
  }
  CHECK(hits > 1800);
}

TEST_CASE("near: a value larger than the whole cache is given, not kept, and drives nothing out") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<std::string> cache{redis.client, bare_near_by({.max_bytes = 64 * KiB, .max_age = 1h})};
  REQUIRE(tracks(cache));
  const tn::key small = gateway_health(acme, "small");
  const tn::key large = gateway_health(acme, "large");
  redis.set(small, "small");
  redis.set(large, std::string(100 * KiB, 'x'));
  check_kept_by_reading(cache, small);
  for (int i = 0; i < 3; ++i) {
    const auto found = cache.get(large);
    REQUIRE(found.has_value());
    CHECK((*found)->size() == 100 * KiB);
    CHECK(found->source() == tn::source::redis);
  }
  CHECK(is_near(cache, small));
  CHECK(cache.near_stats().bytes <= 64 * KiB);
}

TEST_CASE("near: a codec that knows how much memory its values take is believed") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<std::string, heavy_codec> cache{redis.client, bare_near_by({.max_bytes = 256 * KiB, .max_age = 1h})};
  REQUIRE(eventually([&] { return cache.near_stats().tracking; }));
  for (int i = 0; i < 30; ++i) {
    redis.set(gateway_health(acme, i), "x");
    (void)cache.get(gateway_health(acme, i));
    CHECK(cache.near_stats().bytes <= 320 * KiB);  // some of it waits to be destroyed
  }
  CHECK(cache.near_stats().values <= 12);
  CHECK(cache.near_stats().values > 0);
  CHECK(cache.near_stats().bytes >= cache.near_stats().values * 20 * KiB);
}

TEST_CASE("near: a value that nobody changes is asked for again when it is older than max_age") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  redis.set(k, "theirs");
  tn::cache<std::string> cache{redis.client, bare_near_by({.max_age = 200ms})};
  REQUIRE(tracks(cache));
  auto read = steady_clock::now();
  int from_redis = 0;
  CHECK(eventually([&] {
    const auto now = steady_clock::now();
    const auto found = cache.get(k).value();
    CHECK(*found == "theirs");
    if (found.source() == tn::source::redis) {
      read = steady_clock::now();
      ++from_redis;
    } else {
      CHECK(now <= read + 200ms);
    }
    return from_redis == 4;
  }));
  CHECK(cache.near_stats().hits > 0);
}

TEST_CASE("near: a value ends in memory when it ends in Redis, though the server says nothing about it") {
  const support::must_end ends;
  support::need_redis();
  const silent_expiry at;
  const tn::client redis{at.options()};
  const tn::key k = portfolio_kpi(acme);
  tn::cache<std::string> cache{redis, bare_near_by()};
  REQUIRE(tracks(cache));
  at.direct().execute("SET", k, "old", "PX", 700);
  const auto stored = steady_clock::now();
  check_kept_by_reading(cache, k);
  std::this_thread::sleep_until(stored + 700ms + 100ms);  // what the two clocks and the way there may differ by
  CHECK(text_at(cache, k) == "nothing");

  tn::cache<kpi> own{redis, near_by({.ttl = 700ms})};
  REQUIRE(tracks(own));
  const tn::key computed = gateway_health(acme, 1);
  (void)own.fetch(computed, [] { return kpi{1}; });
  const auto then = steady_clock::now();
  REQUIRE(comes_near(own, computed));
  std::this_thread::sleep_until(then + 700ms + 100ms);
  CHECK_FALSE(own.get(computed).has_value());
}

TEST_CASE("near: that there is no value ends in memory with its own time") {
  const support::must_end ends;
  support::need_redis();
  const silent_expiry at;
  const tn::client redis{at.options()};
  tn::cache<kpi> cache{redis, near_by({.negative_ttl = 700ms})};
  REQUIRE(tracks(cache));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, std::nullopt);
  const auto then = steady_clock::now();
  REQUIRE(comes_near(cache, k));
  std::this_thread::sleep_until(then + 700ms + 100ms);
  CHECK(cache.fetch(k, [] { return kpi{2}; })->property_count == 2);
}

TEST_CASE("near: a value that may be served stale is not given from memory as fresh beyond its ttl") {
  const support::must_end ends;
  const redis_rig redis;
  site one{near_by({.ttl = 500ms, .stale_for = 1h})};
  REQUIRE(tracks(one.cache));
  const tn::key k = portfolio_kpi(acme);
  (void)one.cache.fetch(k, [] { return kpi{1, "old"}; });
  const auto then = steady_clock::now();
  REQUIRE(comes_near(one.cache, k));
  std::this_thread::sleep_until(then + 500ms + 100ms);
  CHECK_FALSE(one.cache.get(k).has_value());
  CHECK(one.cache.fetch(k, [] { return kpi{2, "new"}; })->unit == "new");
}

TEST_CASE("near: a value that is due is loaded anew ahead of its end, though it is in memory") {
  const support::must_end ends;
  const redis_rig redis;
  site one{near_by({.ttl = 60s, .refresh_ahead = 0.005})};
  REQUIRE(tracks(one.cache));
  const tn::key k = portfolio_kpi(acme);
  std::atomic<int> loads{0};
  const auto loader = [&] { return kpi{++loads}; };
  (void)one.cache.fetch(k, loader);
  REQUIRE(comes_near(one.cache, k));
  CHECK(eventually([&] { return one.cache.fetch(k, loader)->property_count >= 3; }));
  CHECK(one.cache.stats().refreshes >= 2);
  CHECK(one.cache.near_stats().hits > 0);
}

TEST_CASE("near: refreshing at random goes on as well") {
  const support::must_end ends;
  const redis_rig redis;
  site one{near_by({.ttl = 2s, .refresh_beta = 50})};
  REQUIRE(tracks(one.cache));
  const tn::key k = portfolio_kpi(acme);
  std::atomic<int> loads{0};
  const auto loader = [&] {
    std::this_thread::sleep_for(10ms);  // what a query takes
    return kpi{++loads};
  };
  CHECK(eventually([&] {
    (void)one.cache.fetch(k, loader);
    return one.cache.stats().refreshes >= 2;
  }));
}
