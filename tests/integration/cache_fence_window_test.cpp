// The moment between "nothing was invalidated" and the SET on its way, which chance hits too rarely to test.
// A program of its own: it replaces a function of the library, so other tests must not be in it.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/detail/ttl.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <future>

namespace {

namespace tn = tenantry;
using support::acme;
using support::kpi;
using support::portfolio_kpi;

struct held_store {
  support::gate reached;
  support::gate released;
};
thread_local held_store* held = nullptr;

}  // namespace

// Takes the place of the library's own in this program. A store draws its jitter after it looked for invalidations and
// before it writes, so a thread can be held exactly there.
double tenantry::detail::random_unit() {
  if (held != nullptr) {
    held->reached.open();
    held->released.wait();
  }
  return 0.5;
}

/// Runs `change` while a loaded value, "old", is about to be stored, and lets both end.
template <class Change>
tn::cached<kpi> change_during_store(tn::cache<kpi>& cache, const tn::key& k, Change&& change) {
  using namespace std::chrono_literals;
  held_store store;
  auto loading = support::on_thread([&] {
    held = &store;
    return cache.fetch(k, [] { return kpi{1, "old"}; });
  });
  const support::opens_at_end cleanup{store.released};
  REQUIRE(store.reached.wait());
  auto changing = support::on_thread(change);
  (void)changing.wait_for(300ms);  // it may return now, or wait for the store: both can be right
  store.released.open();
  changing.get();
  return loading.get();
}

TEST_CASE("a loader whose store is about to begin when the key is invalidated does not leave its value in Redis") {
  const support::must_end ends;
  const support::redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  const auto old = change_during_store(cache, k, [&] { cache.invalidate(k); });
  CHECK(old->unit == "old");
  CHECK(cache.fetch(k, [] { return kpi{2, "new"}; })->unit == "new");
}

TEST_CASE("a loader whose store is about to begin when the key is put does not replace what was put") {
  const support::must_end ends;
  const support::redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  const auto old = change_during_store(cache, k, [&] { cache.put(k, kpi{2, "put"}); });
  CHECK(old->unit == "old");
  CHECK(cache.fetch(k, [] { return kpi{3, "not called"}; })->unit == "put");
}
