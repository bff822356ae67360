// Work that a cache leaves to the I/O thread: where that cannot be started, beside other work, and without an executor.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/no_threads.hpp"
#include "support/sanitized.hpp"
#include "support/sites.hpp"
#include "support/undelivered_rig.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <coroutine>
#include <thread>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::gateway_health;
using support::globex;
using support::kpi;
using support::load_held;
using support::outage;
using support::portfolio_kpi;
using support::redis_rig;
using support::site;
using support::undelivered_rig;

/// Renewed each third of it, so that the machine may stand still for the rest.
constexpr std::chrono::milliseconds life = support::sanitized ? 6s : 2s;

/// A load that outlives its lease is stored only where the lease was renewed.
void check_kept(load_held& load, const redis_rig& redis, const tn::key& k) {
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() < begin + 2 * life) {
    CHECK(redis.client.execute("EXISTS", k.companion("lease")).integer() == 1);
    std::this_thread::sleep_for(life / 8);
  }
  CHECK(load.finish().stored());
}

}  // namespace

TEST_CASE("where no thread can be started, an invalidation for the queue throws, and the next one delivers both") {
  const support::must_end ends;
  undelivered_rig rig;
  rig.begin(outage::unreachable);
  {
    const support::no_threads machine;
    CHECK(support::thrown_by([&] { return rig.inv.invalidate(acme); }));
  }
  CHECK(rig.inv.queued() == 1);
  CHECK(rig.inv.invalidate(globex) == tn::delivery::queued);
  CHECK(rig.inv.queued() == 2);
  rig.end(outage::unreachable);
  CHECK(rig.delivered());
  CHECK(rig.elsewhere.execute("EXISTS", "stamp:{acme}", "stamp:{globex}").integer() == 2);
}

TEST_CASE("where no thread can be started a load goes on without renewals, and the next load has them again") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.lease_ttl = life})};
  {
    const support::no_threads machine;
    CHECK(one.cache.fetch(gateway_health(acme, 1), [] { return kpi{1, "one"}; }).stored());
  }
  load_held load{one, portfolio_kpi(acme), {2, "two"}};
  check_kept(load, redis, portfolio_kpi(acme));
}

TEST_CASE("a short lease is kept beside a long one of another cache of the same client") {
  const support::must_end ends;
  const redis_rig redis;
  site one{site::waiting({.lease_ttl = 60s})};
  load_held long_one{one, gateway_health(acme, 1), {1, "one"}};
  tn::cache<kpi> brief{one.redis, site::waiting({.lease_ttl = life})};
  support::gate release;
  support::gate inside;
  auto loading = support::on_thread([&] {
    return brief.fetch(portfolio_kpi(acme), [&] {
      inside.open();
      release.wait();
      return kpi{2, "two"};
    });
  });
  const support::opens_at_end opens{release};
  REQUIRE(inside.wait());
  std::this_thread::sleep_for(2 * life);
  release.open();
  CHECK(loading.get().stored());
  CHECK(long_one.finish().stored());
}

TEST_CASE("leases are kept also while the client's executor runs nothing") {
  const support::must_end ends;
  const redis_rig redis;
  auto options = support::patient_options();
  options.executor = [](std::coroutine_handle<>) {};
  site one{site::waiting({.lease_ttl = life}), options};
  load_held load{one, portfolio_kpi(acme), {1, "one"}};
  check_kept(load, redis, portfolio_kpi(acme));
}
