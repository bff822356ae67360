// Near caches in moments that come rarely: what was noted by one step of a fetch and is used by a later one.

#include "caching/cache_state.hpp"
#include "caching/envelope.hpp"
#include "caching/fetch_session.hpp"
#include "caching/near_cache.hpp"
#include "caching/stamp.hpp"
#include "support/allocation_counter.hpp"
#include "support/cache_rig.hpp"
#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/near_rig.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::comes_near;
using support::eventually;
using support::gateway_health;
using support::is_near;
using support::kpi;
using support::near_by;
using support::portfolio_kpi;
using support::redis_rig;
using support::tracks;

tn::detail::value_codec codec() { return tn::detail::codec_for<kpi, tn::json_codec<kpi>>(); }

/// Cannot say how much memory a value takes.
struct silent_codec {
  [[nodiscard]] std::string encode(const std::string& value) const { return value; }
  [[nodiscard]] std::string decode(std::string_view bytes) const { return std::string{bytes}; }
  [[nodiscard]] std::size_t memory(const std::string&) const { throw support::odd_fault{3}; }
};

/// The steps of a fetch up to the answer to what it asks.
void ask(tn::detail::cache_state& of, tn::detail::fetch_session& fetch) {
  fetch.announce();
  fetch.answered(of.send(fetch.by(), fetch.machine.requests()));
}

}  // namespace

TEST_CASE("near: a stamp that was known, and not read, is not noted as read") {
  const support::must_end ends;
  const redis_rig redis;
  int made = 480;
  tn::cache<kpi> cache{redis.client, near_by(), [&] { return kpi{made, "made"}; }};
  REQUIRE(tracks(cache));
  const tn::key kept = portfolio_kpi(acme);
  const tn::key absent = gateway_health(acme, 1);
  (void)cache.fetch(kept);
  REQUIRE(comes_near(cache, kept));

  tn::detail::cache_state other{redis.client, near_by(), codec()};
  tn::detail::fetch_session fetch{other, absent, tn::detail::fetcher::outside};
  fetch.begin();  // it knows the stamp that is in memory
  REQUIRE(fetch.machine.knew_stamp());
  const tn::client elsewhere{redis_rig::server().url()};
  made = 500;
  const auto before = cache.near_stats().invalidations;
  tn::invalidator{elsewhere, tn::catalog{portfolio_kpi}}.invalidate(acme);
  REQUIRE(eventually([&] { return cache.near_stats().invalidations > before; }));
  ask(other, fetch);  // and goes on when all that is over
  CHECK(cache.fetch(kept)->property_count == 500);
}

TEST_CASE("near: get finds a fresh value that is due for a refresh, whatever is known of its stamp") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, near_by({.ttl = 100s, .refresh_ahead = 0.001})};
  REQUIRE(tracks(cache));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, {1, "put"});
  REQUIRE(eventually([&] { return redis.pttl(k) < 99'800; }));  // due, and fresh for long
  for (int i = 0; i < 3; ++i) CHECK(cache.get(k).has_value());
  CHECK(tn::sync_wait(cache.async_get(k)).has_value());
}

TEST_CASE("near: what is read where tracking is refused is not kept, though the connection was tracked before") {
  support::need_redis();
  const support::must_end ends;
  const tn::testing::redis_server server;
  const tn::client root{server.url()};
  root.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all");
  auto how = tn::client_options::from_url(server.url());
  how.username = "app";
  how.password = "secret";
  const tn::client redis{how};
  tn::cache<kpi> cache{redis, near_by()};
  REQUIRE(tracks(cache));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, {1, "put"});
  REQUIRE(comes_near(cache, k));  // the lane is tracked
  root.execute("ACL", "SETUSER", "app", "-client|tracking");
  root.execute("CLIENT", "KILL", "TYPE", "pubsub");
  REQUIRE(eventually([&] { return cache.near_stats().flushes_push_lost > 0; }));
  REQUIRE(eventually([&] { return cache.near_stats().tracking; }));  // it listens again; the lane tells nobody
  for (int i = 0; i < 5; ++i) CHECK(cache.get(k)->source() == tn::source::redis);
}

TEST_CASE("near: while an invalidation is queued nothing that it concerns is kept, by fetches from before either") {
  support::need_redis();
  const support::must_end ends;
  const tn::testing::redis_server server;
  const tn::client redis{server.url()};
  const tn::cache_options options = near_by({.undelivered = tn::undelivered::queue});
  tn::cache<kpi> cache{redis, options};
  REQUIRE(tracks(cache));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, {480, "put"});
  tn::detail::cache_state other{redis, options, codec()};
  tn::detail::fetch_session fetch{other, k, tn::detail::fetcher::outside};
  fetch.begin();  // nothing is queued yet
  const tn::client root{server.url()};
  root.execute("REPLICAOF", "127.0.0.1", 1);  // reads are answered, writes are refused
  REQUIRE(cache.invalidate(k) == tn::delivery::queued);
  REQUIRE(tracks(cache));
  for (int looks = 0; looks < 3; ++looks) {  // as one who waited looks again
    ask(other, fetch);
    if (fetch.step == tn::detail::fetch_step::decode) fetch.decode();
    CHECK_FALSE(other.near()->find(k).found);
    fetch.step = fetch.machine.begin();
  }
  root.execute("REPLICAOF", "NO", "ONE");
  CHECK(eventually([&] { return other.undelivered().size() == 0; }));
  CHECK_FALSE(cache.get(k).has_value());
}

TEST_CASE("near: a cache may end on the I/O thread of its client") {
  const support::must_end ends;
  const redis_rig redis;
  auto how = tn::client_options::from_url(redis_rig::server().url());
  how.executor = tn::inline_executor();
  const tn::client client{how};
  const auto use = [&]() -> tn::task<int> {
    tn::cache<kpi> cache{client, near_by(), [] { return kpi{7, "made"}; }};
    auto fetching = cache.async_fetch(portfolio_kpi(acme));
    const auto found = co_await std::move(fetching);  // goes on there
    co_return found->property_count;
  };
  for (int i = 0; i < 3; ++i) CHECK(tn::sync_wait(use()) == 7);
}

TEST_CASE("near: a cache may end at any moment of the beginning of its push connection") {
  const support::must_end ends;
  const redis_rig redis;
  for (auto life = 0us; life < 4ms; life += 20us) {
    const tn::cache<kpi> cache{redis.client, near_by()};
    const auto end = std::chrono::steady_clock::now() + life;
    while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
  }
  const tn::cache<kpi> cache{redis.client, near_by()};
  CHECK(tracks(cache));
}

TEST_CASE("near: a value for which there is no memory is not kept, and is when there is some") {
  if (!support::allocation_failure::works) SKIP("no allocation can be made to fail here");
  const support::must_end ends;
  const redis_rig redis;
  tn::detail::cache_state state{redis.client, near_by(), codec()};
  tn::detail::near_cache& near = *state.near();
  REQUIRE(eventually([&] { return near.stats().tracking; }));
  const tn::key k = portfolio_kpi(acme);
  tn::detail::envelope_header header{.stamp = tn::detail::tenant_stamp::make(), .computed_at = 1us};
  for (const char* name : {"property:42", "a tag whose name is long enough to need memory of its own"}) {
    header.tags.push_back({.name = name, .stamp = tn::detail::tag_stamp::make()});
  }
  const tn::detail::any_value value = std::make_shared<const kpi>(480, "made");
  std::size_t failures = 0;
  for (bool failed = true; failed; failures += failed ? 1 : 0) {
    const auto ticket = near.begin(k);
    const auto before = near.stats();
    {
      const support::allocation_failure one{failures + 1};
      near.keep(ticket, k, {.value = value, .header = header, .life = 60'000, .payload = 10});
      failed = support::allocation_failure::came();
    }
    const auto after = near.stats();
    CHECK(after.refused - before.refused == (failed ? 1 : 0));
    CHECK(after.stores - before.stores == (failed ? 0 : 1));
    CHECK(after.values == (failed ? 0 : 1));
    if (failed) CHECK(after.bytes == before.bytes);
  }
  CHECK(failures > 3);  // its node, its tags and their stamps
}

TEST_CASE("near: nothing is given from memory when the client was closed") {
  const support::must_end ends;
  const redis_rig redis;
  tn::client client{redis_rig::server().url()};
  tn::cache<kpi> cache{client, near_by()};
  REQUIRE(tracks(cache));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, {1, "put"});
  REQUIRE(comes_near(cache, k));
  client.close(1s);
  CHECK(support::failure_of([&] { (void)cache.get(k); }).code == tn::errc::closed);
  CHECK_FALSE(cache.near_stats().tracking);
}

TEST_CASE("near: the child of a fork gives nothing from the memory of its parent, and the parent goes on") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client, near_by()};
  REQUIRE(tracks(cache));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, {1, "put"});
  REQUIRE(comes_near(cache, k));
  const int child = support::in_child([&] {
    try {
      (void)cache.get(k);
      return 1;
    } catch (const tn::connection_error& why) {
      return why.code() == tn::errc::forked ? 0 : 2;
    }
  });
  CHECK(child == 0);
  CHECK(is_near(cache, k));
}

TEST_CASE("near: a codec that fails to say how much memory a value takes costs no value, and it is not kept") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<std::string, silent_codec> cache{redis.client, near_by()};
  REQUIRE(eventually([&] { return cache.near_stats().tracking; }));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, "v");
  for (int i = 0; i < 3; ++i) {
    const auto found = cache.get(k);
    REQUIRE(found.has_value());
    CHECK(**found == "v");
    CHECK(found->source() == tn::source::redis);
  }
  CHECK(cache.near_stats().refused >= 1);
}
