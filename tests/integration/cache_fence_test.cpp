// What invalidate and put do to loads that are under way.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/random_bytes.hpp"

#include <tenantry/cache.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <functional>
#include <future>
#include <string>
#include <vector>

namespace {

namespace tn = tenantry;
using support::acme;
using support::eventually;
using support::gate;
using support::gateway_health;
using support::kpi;
using support::on_thread;
using support::portfolio_kpi;
using support::redis_rig;

/// A load that is under way, and one fetch that waits for it, until `finish`.
class held_load {
 public:
  held_load(tn::cache<kpi>& cache, const tn::key& k)
      : leading_{on_thread([this, &cache, k] {
          return cache.fetch(k, [this] {
            inside_.open();
            release_.wait();
            return kpi{1, "old"};
          });
        })} {
    REQUIRE(inside_.wait());
    const auto before = cache.stats().waits;
    following_ = on_thread([&cache, k] { return cache.fetch(k, [] { return kpi{2, "not called"}; }); });
    REQUIRE(eventually([&] { return cache.stats().waits == before + 1; }));
  }
  held_load(const held_load&) = delete;
  held_load& operator=(const held_load&) = delete;
  ~held_load() { release_.open(); }

  struct results {
    tn::cached<kpi> leader;
    tn::cached<kpi> follower;
  };
  results finish() {
    release_.open();
    return {leading_.get(), following_.get()};
  }

 private:
  gate inside_;
  gate release_;
  std::future<tn::cached<kpi>> leading_;
  std::future<tn::cached<kpi>> following_;
};

void check_kept_back(const held_load::results& old) {
  CHECK(old.leader->unit == "old");
  CHECK_FALSE(old.leader.stored());
  CHECK(old.leader.failure() == nullptr);
  CHECK(old.leader.source() == tn::source::computed);
  CHECK(&*old.follower == &*old.leader);
  CHECK_FALSE(old.follower.stored());
}

}  // namespace

TEST_CASE("a loader that outlives an invalidation stores nothing, and its own callers still get its value") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  held_load load{cache, k};
  cache.invalidate(k);
  check_kept_back(load.finish());
  CHECK_FALSE(redis.holds(k));
  CHECK(cache.stats().fenced == 1);
  CHECK(cache.stats().stores == 0);
}

TEST_CASE("a fetch that begins after an invalidation does not join the load that began before it") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  held_load load{cache, k};
  cache.invalidate(k);
  const auto fresh = cache.fetch(k, [] { return kpi{3, "new"}; });  // ends while the other load still runs
  CHECK(fresh->unit == "new");
  CHECK(fresh.stored());
  check_kept_back(load.finish());
  CHECK(cache.fetch(k, [] { return kpi{4, "not called"}; })->unit == "new");
  CHECK(cache.stats().fenced == 1);
}

TEST_CASE("fetches that begin after an invalidation share one new load, which a second invalidation fences again") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  held_load first{cache, k};
  cache.invalidate(k);
  held_load second{cache, k};
  cache.invalidate(k);
  check_kept_back(first.finish());
  const auto fresh = cache.fetch(k, [] { return kpi{3, "new"}; });
  CHECK(fresh.stored());
  check_kept_back(second.finish());
  CHECK(cache.get(k).has_value());
  CHECK(cache.stats().fenced == 2);
}

TEST_CASE("a put during a load wins over it: the loaded value is not stored") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  held_load load{cache, k};
  cache.put(k, kpi{3, "put"});
  const auto fresh = cache.fetch(k, [] { return kpi{4, "not called"}; });
  CHECK(fresh->unit == "put");
  CHECK(fresh.source() == tn::source::redis);
  check_kept_back(load.finish());
  CHECK(cache.fetch(k, [] { return kpi{4, "not called"}; })->unit == "put");
  CHECK(cache.stats().fenced == 1);
  CHECK(cache.stats().stores == 1);
}

TEST_CASE("a fetch that begins after a put does not join an earlier load, also when the put value is gone again") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  held_load load{cache, k};
  cache.put(k, kpi{3, "put"});
  redis.client.execute("DEL", k);
  CHECK(cache.fetch(k, [] { return kpi{4, "new"}; })->unit == "new");
  check_kept_back(load.finish());
}

TEST_CASE("an invalidation of one key leaves the loads of others alone") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  held_load load{cache, gateway_health(acme, 1)};
  cache.invalidate(gateway_health(acme, 2));
  cache.put(gateway_health(acme, 3), kpi{3});
  cache.invalidate(gateway_health(tn::tenant_id{"acme2"}, 1));
  const auto result = load.finish();
  CHECK(result.leader.stored());
  CHECK(result.follower.stored());
  CHECK(redis.holds(gateway_health(acme, 1)));
  CHECK(cache.stats().fenced == 0);
}

TEST_CASE("a loader that invalidates its own key stores nothing, and one that puts it keeps what it put") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  const auto invalidated = cache.fetch(k, [&] { return cache.invalidate(k), kpi{1}; });
  CHECK_FALSE(invalidated.stored());
  CHECK_FALSE(redis.holds(k));
  const auto replaced = cache.fetch(k, [&] { return cache.put(k, kpi{2, "put"}), kpi{3, "returned"}; });
  CHECK(replaced->unit == "returned");
  CHECK_FALSE(replaced.stored());
  CHECK(cache.fetch(k, [] { return kpi{4}; })->unit == "put");
}

TEST_CASE("a load that was fenced and then throws gives its exception to its own callers only") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  gate inside;
  gate release;
  auto failing = on_thread([&] {
    return support::thrown_by([&] {
      return cache.fetch(k, [&]() -> kpi {
        inside.open();
        release.wait();
        throw support::odd_fault{1};
      });
    });
  });
  const support::opens_at_end cleanup{release};
  REQUIRE(inside.wait());
  cache.invalidate(k);
  held_load fresh{cache, k};
  release.open();
  CHECK(failing.get());
  const auto result = fresh.finish();
  CHECK(result.leader.stored());
  CHECK(&*result.follower == &*result.leader);
}

TEST_CASE("no fetch that begins after an invalidation sees a value loaded before it, with many threads loading") {
  constexpr int invalidations = 500;
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  std::atomic<int> database{0};
  std::atomic<bool> over{false};
  const auto loader = [&] { return kpi{database}; };
  std::vector<std::future<void>> loading;
  for (int t = 0; t < 6; ++t) {
    loading.push_back(on_thread([&] {
      while (!over) (void)cache.fetch(k, loader);
    }));
  }
  int stale = 0;
  for (int i = 0; i < invalidations; ++i) {
    const int written = ++database;
    cache.invalidate(k);
    for (int n = 0; n < 2; ++n) {
      if (cache.fetch(k, loader)->property_count < written) ++stale;
    }
  }
  over = true;
  for (auto& each : loading) each.get();
  CHECK(stale == 0);
}
