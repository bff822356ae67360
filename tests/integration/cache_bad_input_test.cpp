// Whatever is at a key, and whatever a codec cannot write: a counted miss or a typed error, never a lost value.

#include "support/cache_rig.hpp"
#include "support/kpi.hpp"

#include <tenantry/cache.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::string_literals;
using Catch::Matchers::ContainsSubstring;
using support::acme;
using support::kpi;
using support::portfolio_kpi;
using support::redis_rig;

const std::vector<std::string> foreign_payloads{
    "",
    " ",
    "nonsense",
    "null",
    "[]",
    "{}",
    "{",
    R"({"property_count":12,"un)",
    R"({"property_count":12})",
    R"({"property_count":"twelve","unit":"kWh"})",
    R"({"property_count":12,"unit":"kWh"}{)",
    "a:1:{s:4:\"unit\";s:3:\"kWh\";}",
    "\x80\x04\x95\x1c\x00"s,
    "\x1f\x8b\x08\x00\xff"s,
    "\0\0\0"s,
    std::string(100'000, '['),
};

const kpi unwritable{1, "not UTF-8: \xff"};

/// Throws what is no std::exception.
struct odd_codec {
  [[nodiscard]] std::string encode(int value) const {
    if (value < 0) throw support::odd_fault{value};
    return std::to_string(value);
  }
  [[nodiscard]] int decode(std::string_view bytes) const {
    if (bytes == "odd") throw support::odd_fault{1};
    return std::stoi(std::string{bytes});
  }
};

/// Makes the key hold a value of another type.
void hold_another_type(const redis_rig& redis, const tn::key& k, std::string_view type) {
  redis.client.execute("DEL", k);
  if (type == "list") redis.client.execute("LPUSH", k, "x");
  if (type == "set") redis.client.execute("SADD", k, "x");
  if (type == "zset") redis.client.execute("ZADD", k, 1, "x");
  if (type == "hash") redis.client.execute("HSET", k, "field", "x");
  if (type == "stream") redis.client.execute("XADD", k, "*", "field", "x");
  REQUIRE(redis.client.execute("TYPE", k).str() == type);
}

const std::vector<std::string_view> other_types{"list", "set", "zset", "hash", "stream"};

}  // namespace

TEST_CASE("a payload that is not a value is a counted miss, and the loaded value takes its place") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  for (const std::string& payload : foreign_payloads) {
    INFO("payload: " << payload.substr(0, 60));
    tn::cache<kpi> cache{redis.client, {}, [] { return kpi{12, "kWh"}; }};
    redis.set(k, payload);
    const auto result = cache.fetch(k);
    CHECK(*result == kpi{12, "kWh"});
    CHECK(result.source() == tn::source::computed);
    CHECK(result.stored());
    CHECK(result.failure() == nullptr);
    const tn::cache_stats stats = cache.stats();
    CHECK(stats.undecodable > 0);
    CHECK(stats.misses == stats.undecodable);
    CHECK(stats.hits == 0);
    CHECK(stats.read_failures == 0);
    CHECK(stats.loads == 1);
    CHECK(redis.payload(k) == R"({"property_count":12,"unit":"kWh"})");
    CHECK(redis.pttl(k) > 0);
    CHECK(cache.fetch(k).source() == tn::source::redis);
  }
}

TEST_CASE("get takes a payload that is not a value for a miss, counts it once and leaves it there") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  for (const std::string& payload : foreign_payloads) {
    INFO("payload: " << payload.substr(0, 60));
    tn::cache<kpi> cache{redis.client};
    redis.set(k, payload);
    CHECK_FALSE(cache.get(k).has_value());
    CHECK(cache.stats().undecodable == 1);
    CHECK(cache.stats().misses == 1);
    CHECK(cache.stats().read_failures == 0);
    CHECK(redis.raw(k) == payload);
  }
}

TEST_CASE("a key that holds another type is a counted miss, and the loaded value takes its place") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  for (const std::string_view type : other_types) {
    INFO("type: " << type);
    tn::cache<kpi> cache{redis.client, {}, [] { return kpi{12, "kWh"}; }};
    hold_another_type(redis, k, type);
    CHECK_FALSE(cache.get(k).has_value());
    CHECK(cache.stats().wrong_type == 1);
    CHECK(cache.stats().misses == 1);

    const auto result = cache.fetch(k);
    CHECK(*result == kpi{12, "kWh"});
    CHECK(result.stored());
    CHECK(result.failure() == nullptr);
    CHECK(cache.stats().wrong_type > 1);
    CHECK(cache.stats().misses == cache.stats().wrong_type);
    CHECK(cache.stats().undecodable == 0);
    CHECK(cache.stats().read_failures == 0);
    CHECK(redis.client.execute("TYPE", k).str() == "string");
    CHECK(cache.fetch(k).source() == tn::source::redis);
  }
}

TEST_CASE("put and invalidate work on a key that holds another type") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  tn::cache<kpi> cache{redis.client};
  for (const std::string_view type : other_types) {
    INFO("type: " << type);
    hold_another_type(redis, k, type);
    cache.put(k, kpi{3, "put"});
    REQUIRE(cache.get(k).has_value());
    CHECK(**cache.get(k) == kpi{3, "put"});
    hold_another_type(redis, k, type);
    cache.invalidate(k);
    CHECK_FALSE(redis.holds(k));
  }
}

TEST_CASE("a loaded value that the codec cannot write is answered, not stored, counted and told") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  tn::cache<kpi> cache{redis.client, {}, [] { return unwritable; }};
  const auto result = cache.fetch(k);
  CHECK(*result == unwritable);
  CHECK(result.source() == tn::source::computed);
  CHECK_FALSE(result.stored());
  REQUIRE(result.failure() != nullptr);
  CHECK(result.failure()->code() == tn::errc::encode);
  CHECK(result.failure()->execution() == tn::execution::not_sent);
  CHECK_THAT(result.failure()->what(), ContainsSubstring(k.str()));
  CHECK_FALSE(redis.holds(k));
  CHECK(cache.stats().encode_failures == 1);
  CHECK(cache.stats().load_failures == 0);
  CHECK(cache.stats().stores == 0);
  CHECK(cache.stats().store_failures == 0);
  (void)cache.fetch(k);
  CHECK(cache.stats().loads == 2);
}

TEST_CASE("put refuses a value that the codec cannot write, names its key, and leaves what is there") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  tn::cache<kpi> cache{redis.client};
  cache.put(k, kpi{1, "before"});
  try {
    cache.put(k, unwritable);
    FAIL("nothing was thrown");
  } catch (const tn::error& refusal) {
    CHECK(refusal.code() == tn::errc::encode);
    CHECK(refusal.execution() == tn::execution::not_sent);
    CHECK_FALSE(refusal.retryable());
    CHECK_THAT(refusal.what(), ContainsSubstring(k.str()));
  }
  CHECK(cache.fetch(k, [] { return kpi{2}; })->unit == "before");
}

TEST_CASE("a codec that refuses bytes by throwing anything is a counted miss") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  tn::cache<int, odd_codec> cache{redis.client, {}, [] { return 7; }};
  redis.set(k, "odd");
  CHECK_FALSE(cache.get(k).has_value());
  CHECK(*cache.fetch(k) == 7);
  CHECK(cache.stats().undecodable > 1);
  CHECK(redis.payload(k) == "7");
}

TEST_CASE("a codec that refuses a value by throwing anything costs the store, not the loaded value") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  tn::cache<int, odd_codec> cache{redis.client, {}, [] { return -7; }};
  std::optional<tn::cached<int>> result;
  REQUIRE_NOTHROW(result.emplace(cache.fetch(k)));
  CHECK(**result == -7);
  CHECK_FALSE(result->stored());
  REQUIRE(result->failure() != nullptr);
  CHECK(result->failure()->code() == tn::errc::encode);
  CHECK(cache.stats().encode_failures == 1);
}

TEST_CASE("a payload larger than the client takes does not keep a fetch from answering, and is told") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  redis.set(k, std::string(10'000, 'x'));
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.limits.bytes = 4096;
  const tn::client careful{options};
  tn::cache<kpi> cache{careful, {}, [] { return kpi{12}; }};
  const auto result = cache.fetch(k);
  CHECK(result->property_count == 12);
  CHECK_FALSE(result.stored());
  REQUIRE(result.failure() != nullptr);
  CHECK(result.failure()->code() == tn::errc::protocol);
  CHECK(cache.stats().read_failures == 1);
  CHECK(careful.execute("PING").str() == "PONG");  // the client goes on
}
