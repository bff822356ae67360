// What a cache does while Redis is gone, frozen or refuses: loaders answer, and nothing is dropped in silence.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <future>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::kpi;
using support::portfolio_kpi;
using tenantry::testing::redis_server;

/// A server that the test may break.
redis_server own_server(std::vector<std::string> arguments = {}) {
  support::need_redis();
  return redis_server{{.arguments = std::move(arguments), .program = {}, .start_timeout = 20s, .port = {}}};
}

void check_answered_without_redis(const tn::cached<kpi>& result) {
  CHECK(result->property_count == 12);
  CHECK(result.source() == tn::source::computed);
  CHECK_FALSE(result.stored());
  CHECK(result.failure() != nullptr);
}

/// The code of what a call threw; nothing where it threw nothing.
template <class Call>
std::optional<tn::errc> refused(Call&& call) {
  try {
    call();
  } catch (const tn::error& fault) {
    return fault.code();
  }
  return std::nullopt;
}

std::chrono::steady_clock::duration elapsed_by(const auto& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::steady_clock::now() - begin;
}

kpi twelve() { return {12, "kWh"}; }

}  // namespace

TEST_CASE("a fetch while Redis is down answers from the loader, and says why nothing is stored") {
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client, {}, twelve};
  server.kill();
  const auto result = cache.fetch(portfolio_kpi(acme));
  check_answered_without_redis(result);
  REQUIRE(result.failure() != nullptr);
  CHECK(result.failure()->code() == tn::errc::unreachable);
  CHECK(result.failure()->execution() == tn::execution::not_sent);
  const tn::cache_stats stats = cache.stats();
  CHECK(stats.read_failures == 1);  // asked once, not again before the load or to store
  CHECK(stats.store_failures == 0);
  CHECK(stats.loads == 1);
  CHECK(stats.hits + stats.misses + stats.stores == 0);
}

TEST_CASE("there is one loader per key also while Redis is down, and all who wait are told") {
  constexpr std::uint64_t threads = 20;
  const support::must_end ends;
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client};
  server.kill();
  std::atomic<int> loads{0};
  const auto loader = [&] {
    ++loads;
    return support::eventually([&] { return cache.stats().waits == threads - 1; }) ? twelve() : kpi{};
  };
  std::vector<std::future<tn::cached<kpi>>> fetching;
  for (std::uint64_t i = 0; i < threads; ++i) {
    fetching.push_back(support::on_thread([&] { return cache.fetch(portfolio_kpi(acme), loader); }));
  }
  for (auto& each : fetching) check_answered_without_redis(each.get());
  CHECK(loads == 1);
}

TEST_CASE("what a loader throws while Redis is down comes unchanged") {
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client};
  server.kill();
  try {
    (void)cache.fetch(portfolio_kpi(acme), []() -> kpi { throw support::odd_fault{42}; });
    FAIL("nothing was thrown");
  } catch (const support::odd_fault& fault) {
    CHECK(fault.code == 42);
  }
  CHECK(cache.stats().load_failures == 1);
}

TEST_CASE("a value that was loaded while Redis died is answered, not stored, and says so") {
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client};
  const auto result = cache.fetch(portfolio_kpi(acme), [&] {
    server.kill();
    return twelve();
  });
  check_answered_without_redis(result);
  const tn::cache_stats stats = cache.stats();
  CHECK(stats.read_failures == 0);
  CHECK(stats.store_failures == 1);
  CHECK(stats.stores == 0);

  server.start();
  // The pause after failed attempts to connect may be longer than the deadline of one fetch.
  CHECK(support::eventually([&] { return cache.fetch(portfolio_kpi(acme), twelve).stored(); }));
}

TEST_CASE("a frozen Redis costs a fetch its redis_timeout once, then the loader answers") {
  const support::must_end ends;
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client, {.redis_timeout = 200ms}, twelve};
  CHECK(cache.fetch(portfolio_kpi(acme)).stored());
  cache.invalidate(portfolio_kpi(acme));
  server.pause();
  std::optional<tn::cached<kpi>> result;
  const auto took = elapsed_by([&] { result.emplace(cache.fetch(portfolio_kpi(acme))); });
  CHECK(took < 2s);
  check_answered_without_redis(*result);
  REQUIRE(result->failure() != nullptr);
  CHECK(result->failure()->code() == tn::errc::timeout);
  CHECK(cache.stats().read_failures == 1);
  CHECK(cache.stats().store_failures == 0);

  server.resume();
  CHECK(support::eventually([&] { return cache.fetch(portfolio_kpi(acme)).failure() == nullptr; }));
  CHECK(cache.fetch(portfolio_kpi(acme)).source() == tn::source::redis);
}

TEST_CASE("a Redis that freezes during a load costs the store its redis_timeout, and the value is answered") {
  const support::must_end ends;
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client, {.redis_timeout = 200ms}};
  std::optional<tn::cached<kpi>> result;
  const auto took = elapsed_by([&] {
    result.emplace(cache.fetch(portfolio_kpi(acme), [&] {
      server.pause();
      return twelve();
    }));
  });
  CHECK(took < 2s);
  check_answered_without_redis(*result);
  CHECK(cache.stats().store_failures == 1);
  CHECK(result->failure()->code() == tn::errc::timeout);
}

TEST_CASE("redis_timeout is the deadline of get, put and invalidate too") {
  const support::must_end ends;
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client, {.redis_timeout = 200ms}};
  const tn::key k = portfolio_kpi(acme);
  CHECK_FALSE(cache.get(k).has_value());
  server.pause();
  CHECK(elapsed_by([&] { CHECK(refused([&] { (void)cache.get(k); }) == tn::errc::timeout); }) < 2s);
  CHECK(elapsed_by([&] { CHECK(refused([&] { cache.put(k, twelve()); }) == tn::errc::timeout); }) < 2s);
  CHECK(elapsed_by([&] { CHECK(refused([&] { cache.invalidate(k); }) == tn::errc::timeout); }) < 2s);
}

TEST_CASE("an invalidation during a store that a frozen Redis does not answer ends in time, and throws") {
  const support::must_end ends;
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client, {.redis_timeout = 200ms}};
  const tn::key k = portfolio_kpi(acme);
  support::gate frozen;
  auto loading = support::on_thread([&] {
    return cache.fetch(k, [&] {
      server.pause();
      frozen.open();
      return twelve();
    });
  });
  REQUIRE(frozen.wait());
  CHECK(elapsed_by([&] { CHECK(refused([&] { cache.invalidate(k); }) == tn::errc::timeout); }) < 4s);
  CHECK_FALSE(loading.get().stored());
}

TEST_CASE("get, put and invalidate throw while Redis is down, so that nothing is dropped in silence") {
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client, {}, twelve};
  const tn::key k = portfolio_kpi(acme);
  server.kill();
  CHECK(refused([&] { (void)cache.get(k); }) == tn::errc::unreachable);
  CHECK(cache.stats().read_failures == 1);
  CHECK(refused([&] { cache.put(k, twelve()); }) == tn::errc::unreachable);
  CHECK(cache.stats().store_failures == 1);
  CHECK(refused([&] { cache.invalidate(k); }) == tn::errc::unreachable);
  CHECK_THROWS_AS(cache.invalidate(k), tn::connection_error);

  server.start();
  CHECK(support::eventually([&] {  // attempts to connect are up to 2 s apart
    try {
      cache.invalidate(k);
      return true;
    } catch (const tn::connection_error&) {
      return false;
    }
  }));
  CHECK_FALSE(cache.get(k).has_value());
  CHECK_NOTHROW(cache.put(k, twelve()));
  CHECK(cache.fetch(k).source() == tn::source::redis);
}

TEST_CASE("a load that was under way when an invalidation failed is not joined or stored after it") {
  const support::must_end ends;
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client};
  const tn::key k = portfolio_kpi(acme);
  support::gate inside;
  support::gate release;
  auto old = support::on_thread([&] {
    return cache.fetch(k, [&] {
      inside.open();
      release.wait();
      return kpi{1, "old"};
    });
  });
  const support::opens_at_end cleanup{release};
  REQUIRE(inside.wait());
  server.kill();
  CHECK_THROWS_AS(cache.invalidate(k), tn::connection_error);
  server.start();
  CHECK(support::eventually([&] { return cache.fetch(k, [] { return kpi{2, "new"}; }).stored(); }));
  release.open();
  CHECK_FALSE(old.get().stored());
  CHECK(cache.fetch(k, [] { return kpi{3, "not called"}; })->unit == "new");
}

TEST_CASE("a cache works again after each of several restarts of Redis") {
  redis_server server = own_server();
  const tn::client client{server.url()};
  tn::cache<kpi> cache{client, {}, twelve};
  for (int i = 0; i < 3; ++i) {
    CHECK(support::eventually([&] { return cache.fetch(portfolio_kpi(acme)).stored(); }));
    CHECK(cache.fetch(portfolio_kpi(acme)).source() == tn::source::redis);
    server.kill();
    check_answered_without_redis(cache.fetch(portfolio_kpi(acme)));
    server.start();
  }
}

TEST_CASE("a Redis that takes no writes does not keep a fetch from answering, and is told in its own words") {
  struct refusal {
    std::vector<std::string> arguments;
    tn::errc code;
  };
  for (const refusal& each : {refusal{{"--maxmemory", "1"}, tn::errc::out_of_memory},
                              refusal{{"--replicaof", "127.0.0.1", "1"}, tn::errc::read_only}}) {
    redis_server server = own_server(each.arguments);
    const tn::client client{server.url()};
    tn::cache<kpi> cache{client, {}, twelve};
    const auto result = cache.fetch(portfolio_kpi(acme));
    check_answered_without_redis(result);
    REQUIRE(result.failure() != nullptr);
    CHECK(result.failure()->code() == each.code);
    CHECK(result.failure()->execution() == tn::execution::rejected);
    CHECK(cache.stats().read_failures == 1);  // it could not have the lease, so there was nothing to store under
    CHECK(cache.stats().store_failures == 0);
  }
}

TEST_CASE("a Redis that refuses the password does not keep a fetch from answering") {
  redis_server server = own_server({"--requirepass", "secret"});
  const tn::client client{"redis://:wrong@127.0.0.1:" + std::to_string(server.port())};
  tn::cache<kpi> cache{client, {}, twelve};
  const auto result = cache.fetch(portfolio_kpi(acme));
  check_answered_without_redis(result);
  REQUIRE(result.failure() != nullptr);
  CHECK(result.failure()->code() == tn::errc::auth);
}

TEST_CASE("a cache whose client was closed still answers from its loader, and says so") {
  const support::redis_rig redis;
  tn::client client{support::redis_rig::server().url()};
  tn::cache<kpi> cache{client, {}, twelve};
  client.close();
  const auto result = cache.fetch(portfolio_kpi(acme));
  check_answered_without_redis(result);
  REQUIRE(result.failure() != nullptr);
  CHECK(result.failure()->code() == tn::errc::closed);
  CHECK(refused([&] { cache.invalidate(portfolio_kpi(acme)); }) == tn::errc::closed);
}
