// Cache-aside as one thread sees it: what is answered, what is stored, and what is counted.

#include "support/cache_rig.hpp"
#include "support/kpi.hpp"
#include "support/random_bytes.hpp"

#include <tenantry/cache.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using namespace std::string_literals;
using support::acme;
using support::gateway_health;
using support::kpi;
using support::portfolio_kpi;
using support::redis_rig;

/// A value that can be moved but not copied.
struct ticket {
  explicit ticket(int n) : number{std::make_unique<int>(n)} {}
  std::unique_ptr<int> number;
};

struct ticket_codec {
  [[nodiscard]] std::string encode(const ticket& value) const { return std::to_string(*value.number); }
  [[nodiscard]] ticket decode(std::string_view bytes) const { return ticket{std::stoi(std::string{bytes})}; }
};

kpi compute_nine() { return {9, "function"}; }

}  // namespace

TEST_CASE("a value is computed once, and then comes from Redis") {
  const redis_rig redis;
  int loads = 0;
  tn::cache<kpi> cache{redis.client, {}, [&loads] { return ++loads, kpi{12, "kWh"}; }};
  const tn::key k = portfolio_kpi(acme);

  const tn::cached<kpi> first = cache.fetch(k);
  CHECK(*first == kpi{12, "kWh"});
  CHECK(first->property_count == 12);
  CHECK(first.source() == tn::source::computed);
  CHECK(first.stored());
  CHECK(first.failure() == nullptr);
  CHECK(redis.holds(k));

  const tn::cached<kpi> second = cache.fetch(k);
  CHECK(*second == *first);
  CHECK(second.source() == tn::source::redis);
  CHECK(second.stored());
  CHECK(second.failure() == nullptr);
  CHECK(loads == 1);
}

TEST_CASE("a value that one process stored is a hit in another") {
  const redis_rig redis;
  const tn::client other{redis_rig::server().unix_url()};
  tn::cache<kpi> here{redis.client};
  tn::cache<kpi> there{other};
  const tn::key k = portfolio_kpi(acme);
  (void)here.fetch(k, [] { return kpi{1, "here"}; });
  const auto hit = there.fetch(k, [] { return kpi{2, "there"}; });
  CHECK(hit->unit == "here");
  CHECK(hit.source() == tn::source::redis);
  there.invalidate(k);
  CHECK_FALSE(here.get(k).has_value());
}

TEST_CASE("each tenant has its own value, and invalidating one leaves the others") {
  const redis_rig redis;
  tn::cache<std::string> cache{redis.client, {}, [](const tn::key& k) { return k.tenant().str(); }};
  const tn::tenant_id globex{"globex"};
  CHECK(*cache.fetch(portfolio_kpi(acme)) == "acme");
  CHECK(*cache.fetch(portfolio_kpi(globex)) == "globex");
  cache.invalidate(portfolio_kpi(acme));
  CHECK_FALSE(cache.get(portfolio_kpi(acme)).has_value());
  REQUIRE(cache.get(portfolio_kpi(globex)).has_value());
  CHECK(**cache.get(portfolio_kpi(globex)) == "globex");
}

TEST_CASE("a loader may take nothing, the key, or the key and a context") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  auto k = [n = 0]() mutable { return gateway_health(acme, ++n); };
  CHECK(cache.fetch(k(), [] { return kpi{1}; })->property_count == 1);
  CHECK(cache.fetch(k(), [](const tn::key& which) { return kpi{2, which.str()}; })->unit == "health:acme:gateway:2");
  CHECK(cache.fetch(k(),
                    [](const tn::key& which, tn::load_context&) {
                      return kpi{3, which.str()};
                    })
            ->property_count == 3);
  CHECK(cache.fetch(k(), compute_nine)->property_count == 9);
  CHECK(cache.fetch(k(), &compute_nine)->property_count == 9);
  const auto constant = [] { return kpi{4}; };
  CHECK(cache.fetch(k(), constant)->property_count == 4);
  CHECK(cache.fetch(k(), [count = 5]() mutable { return kpi{count++}; })->property_count == 5);
  CHECK(cache.fetch(k(), std::function<kpi()>{compute_nine})->property_count == 9);
  tn::cache<std::string> texts{redis.client};
  CHECK(*texts.fetch(k(), [] { return "a literal"; }) == "a literal");
}

TEST_CASE("a loader of the cache may take the same, and may be one that can only be moved") {
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  const auto answer = [&](tn::cache<kpi>& cache) {
    cache.invalidate(k);
    return cache.fetch(k)->property_count;
  };
  tn::cache<kpi> none{redis.client, {}, [] { return kpi{1}; }};
  CHECK(answer(none) == 1);
  tn::cache<kpi> takes_key{
      redis.client, {}, [](const tn::key& which) { return kpi{static_cast<int>(which.str().size())}; }};
  CHECK(answer(takes_key) == static_cast<int>(k.str().size()));
  tn::cache<kpi> takes_both{redis.client, {}, [](const tn::key&, tn::load_context&) { return kpi{3}; }};
  CHECK(answer(takes_both) == 3);
  tn::cache<kpi> moved{redis.client, {}, [own = std::make_unique<int>(4)] { return kpi{*own}; }};
  CHECK(answer(moved) == 4);
  tn::cache<kpi> function{redis.client, {}, &compute_nine};
  CHECK(answer(function) == 9);
}

TEST_CASE("a loader given to one call is used for this call only") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, {}, [] { return kpi{1, "own"}; }};
  const tn::key k = portfolio_kpi(acme);
  CHECK(cache.fetch(k, [] { return kpi{2, "given"}; })->unit == "given");
  cache.invalidate(k);
  CHECK(cache.fetch(k)->unit == "own");
}

TEST_CASE("copies of a fetched value share it, and keep it after the cache and the key are gone") {
  const redis_rig redis;
  std::optional<tn::cached<kpi>> kept;
  const kpi* where = nullptr;
  {
    tn::cache<kpi> cache{redis.client};
    const tn::cached<kpi> first = cache.fetch(portfolio_kpi(acme), [] { return kpi{12, "kWh"}; });
    const tn::cached<kpi> copy = first;
    CHECK(&*copy == &*first);
    CHECK(copy.source() == first.source());
    where = &*first;
    kept = copy;
    cache.invalidate(portfolio_kpi(acme));
  }
  CHECK(&**kept == where);
  CHECK(**kept == kpi{12, "kWh"});
}

TEST_CASE("a value that cannot be copied can be cached") {
  const redis_rig redis;
  tn::cache<ticket, ticket_codec> cache{redis.client, {}, [] { return ticket{31}; }};
  CHECK(*cache.fetch(portfolio_kpi(acme))->number == 31);
  const auto again = cache.fetch(portfolio_kpi(acme));
  CHECK(*again->number == 31);
  CHECK(again.source() == tn::source::redis);
}

TEST_CASE("get answers from Redis only: a hit, or nothing") {
  const redis_rig redis;
  bool loaded = false;
  tn::cache<kpi> cache{redis.client, {}, [&] { return loaded = true, kpi{1}; }};
  CHECK_FALSE(cache.get(portfolio_kpi(acme)).has_value());
  CHECK_FALSE(loaded);
  cache.put(portfolio_kpi(acme), kpi{7, "put"});
  const auto hit = cache.get(portfolio_kpi(acme));
  REQUIRE(hit.has_value());
  CHECK(**hit == kpi{7, "put"});
  CHECK(hit->source() == tn::source::redis);
  CHECK(hit->stored());
  CHECK_FALSE(loaded);
  CHECK(cache.stats().hits == 1);
  CHECK(cache.stats().misses == 1);
}

TEST_CASE("put replaces what is there, whoever stored it") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  (void)cache.fetch(k, [] { return kpi{1, "old"}; });
  cache.put(k, kpi{2, "new"});
  CHECK(cache.fetch(k, [] { return kpi{3, "not called"}; })->unit == "new");
  CHECK(cache.stats().stores == 2);
}

TEST_CASE("invalidate removes the value, and the next fetch loads anew") {
  const redis_rig redis;
  int loads = 0;
  tn::cache<kpi> cache{redis.client, {}, [&] { return kpi{++loads}; }};
  const tn::key k = portfolio_kpi(acme);
  (void)cache.fetch(k);
  cache.invalidate(k);
  CHECK_FALSE(redis.holds(k));
  cache.invalidate(k);  // nothing there: nothing happens
  const auto fresh = cache.fetch(k);
  CHECK(fresh->property_count == 2);
  CHECK(fresh.source() == tn::source::computed);
}

TEST_CASE("an empty string is a value: a hit, not a miss") {
  const redis_rig redis;
  int loads = 0;
  tn::cache<std::string> cache{redis.client, {}, [&] { return ++loads, ""s; }};
  const tn::key k = portfolio_kpi(acme);
  CHECK(cache.fetch(k)->empty());
  CHECK(redis.raw(k)->ends_with(" 0\n"));
  const auto again = cache.fetch(k);
  CHECK(again->empty());
  CHECK(again.source() == tn::source::redis);
  CHECK(cache.get(k).has_value());
  CHECK(loads == 1);
  CHECK(cache.stats().hits == 2);
}

TEST_CASE("a string cache keeps any bytes through Redis") {
  const redis_rig redis;
  tn::cache<std::string> cache{redis.client};
  support::random_bytes random;
  for (int i = 0; i < 50; ++i) {
    const tn::key k = gateway_health(acme, i);
    const std::string bytes = random.bytes(random.below(2000)) + "\r\n\0$-1\r\n"s;
    CHECK(*cache.fetch(k, [&] { return bytes; }) == bytes);
    const auto hit = cache.fetch(k, [] { return "not called"s; });
    CHECK(hit.source() == tn::source::redis);
    CHECK(*hit == bytes);
  }
}

TEST_CASE("a fetch that hits is one round trip, and one that misses is three") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, {}, [] { return kpi{1}; }};
  (void)cache.fetch(gateway_health(acme, "first"));  // from here on the server knows the scripts
  const auto round_trips = [&](auto&& action) {
    const auto before = redis.client.metrics().lanes.at(0).writes;
    (void)action();
    return redis.client.metrics().lanes.at(0).writes - before;
  };
  CHECK(round_trips([&] { return cache.fetch(portfolio_kpi(acme)); }) == 3);
  CHECK(round_trips([&] { return cache.fetch(portfolio_kpi(acme)); }) == 1);
  CHECK(round_trips([&] { return cache.get(portfolio_kpi(acme)); }) == 1);
}

TEST_CASE("what a loader throws comes to the caller unchanged, nothing is stored, and the next fetch loads again") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, {.failure_throttle = 0ms}};
  const tn::key k = portfolio_kpi(acme);
  try {
    (void)cache.fetch(k, []() -> kpi { throw std::out_of_range{"no such tenant"}; });
    FAIL("nothing was thrown");
  } catch (const std::out_of_range& fault) {
    CHECK(fault.what() == "no such tenant"s);
  }
  try {
    (void)cache.fetch(k, []() -> kpi { throw support::odd_fault{42}; });
    FAIL("nothing was thrown");
  } catch (const support::odd_fault& fault) {
    CHECK(fault.code == 42);
  }
  CHECK_FALSE(redis.holds(k));
  CHECK(cache.stats().loads == 2);
  CHECK(cache.stats().load_failures == 2);
  CHECK(cache.stats().stores == 0);
  CHECK(cache.fetch(k, [] { return kpi{3}; }).stored());
}

TEST_CASE("an error of the library that a loader throws is the loader's: it is not taken for a failure of the cache") {
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  CHECK_THROWS_AS(cache.fetch(k,
                              []() -> kpi {
                                throw tn::connection_error{tn::errc::unreachable, tn::execution::not_sent, "database"};
                              }),
                  tn::connection_error);
  CHECK(cache.stats().read_failures == 0);
  CHECK(cache.stats().load_failures == 1);
}
