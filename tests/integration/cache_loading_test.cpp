// Loaders and threads: one load per key, shared results, and no loader that waits for itself.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/random_bytes.hpp"

#include <tenantry/cache.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using namespace std::string_literals;
using support::acme;
using support::eventually;
using support::gate;
using support::gateway_health;
using support::kpi;
using support::on_thread;
using support::portfolio_kpi;
using support::redis_rig;

/// Refuses "corrupt", after telling the test that it was read.
struct watched_codec {
  static inline thread_local std::function<void()> on_corrupt;

  [[nodiscard]] std::string encode(const std::string& value) const { return value; }
  [[nodiscard]] std::string decode(std::string_view bytes) const {
    if (bytes != "corrupt") return std::string{bytes};
    if (on_corrupt) on_corrupt();
    throw std::invalid_argument{"corrupt"};
  }
};

tn::errc code_of(const std::exception_ptr& fault) {
  try {
    std::rethrow_exception(fault);
  } catch (const tn::error& known) {
    return known.code();
  }
}

}  // namespace

TEST_CASE("200 threads that find nothing run the loader once, and all get the same object") {
  constexpr std::uint64_t threads = 200;
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  std::atomic<int> loads{0};
  const auto loader = [&] {
    ++loads;
    const bool all_wait = eventually([&] { return cache.stats().waits == threads - 1; });
    return kpi{all_wait ? 12 : 0, "kWh"};
  };
  std::vector<std::future<tn::cached<kpi>>> fetching;
  for (std::uint64_t i = 0; i < threads; ++i) fetching.push_back(on_thread([&] { return cache.fetch(k, loader); }));
  const tn::cached<kpi> first = fetching.front().get();
  CHECK(*first == kpi{12, "kWh"});
  for (std::size_t i = 1; i < fetching.size(); ++i) {
    const tn::cached<kpi> each = fetching[i].get();
    CHECK(&*each == &*first);
    CHECK(each.source() == tn::source::computed);
    CHECK(each.stored());
    CHECK(each.failure() == nullptr);
  }
  CHECK(loads == 1);
  CHECK(cache.stats().loads == 1);
  CHECK(cache.stats().waits == threads - 1);
  CHECK(cache.stats().stores == 1);
}

TEST_CASE("all who wait for a loader that throws get its very exception at once, and the next fetch loads again") {
  constexpr std::uint64_t threads = 50;
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  for (const std::exception_ptr& fault : {std::make_exception_ptr(std::domain_error{"no such tenant"}),
                                          std::make_exception_ptr(support::odd_fault{42})}) {
    tn::cache<kpi> cache{redis.client, {.failure_throttle = 0ms}};
    std::atomic<int> loads{0};
    std::atomic<bool> all_wait{false};
    const auto loader = [&]() -> kpi {
      ++loads;
      all_wait = eventually([&] { return cache.stats().waits == threads - 1; });
      std::rethrow_exception(fault);
    };
    std::vector<std::future<std::exception_ptr>> fetching;
    for (std::uint64_t i = 0; i < threads; ++i) {
      fetching.push_back(on_thread([&] { return support::thrown_by([&] { return cache.fetch(k, loader); }); }));
    }
    for (auto& each : fetching) CHECK(each.get() == fault);
    CHECK(all_wait);
    CHECK(loads == 1);  // a waiter that tried the failing loader again would count here
    CHECK(cache.stats().load_failures == 1);
    CHECK(cache.stats().stores == 0);
    CHECK_FALSE(redis.holds(k));

    CHECK(cache.fetch(k, [] { return kpi{5}; })->property_count == 5);
    CHECK(cache.stats().loads == 2);
    cache.invalidate(k);
  }
}

TEST_CASE("loaders of different keys run at the same time") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  constexpr int keys = 8;
  std::atomic<int> inside{0};
  gate all_inside;
  const auto loader = [&] {
    if (++inside == keys) all_inside.open();
    return kpi{all_inside.wait() ? 1 : 0};
  };
  std::vector<std::future<tn::cached<kpi>>> fetching;
  for (int i = 0; i < keys; ++i) {
    fetching.push_back(on_thread([&, i] { return cache.fetch(gateway_health(acme, i), loader); }));
  }
  for (auto& each : fetching) CHECK(each.get()->property_count == 1);
}

TEST_CASE("a slow loader does not hold up hits, gets, puts and invalidations of other keys") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key slow = gateway_health(acme, "slow");
  const tn::key other = gateway_health(acme, "other");
  gate inside;
  gate release;
  auto loading = on_thread([&] {
    return cache.fetch(slow, [&] {
      inside.open();
      return kpi{release.wait() ? 1 : 0};
    });
  });
  const support::opens_at_end cleanup{release};
  REQUIRE(inside.wait());
  cache.put(other, kpi{2});
  CHECK(cache.get(other).has_value());
  CHECK(cache.fetch(other, [] { return kpi{3}; })->property_count == 2);
  cache.invalidate(other);
  CHECK(cache.fetch(other, [] { return kpi{4}; })->property_count == 4);
  CHECK_FALSE(cache.get(slow).has_value());
  release.open();
  const auto slow_value = loading.get();
  CHECK(slow_value->property_count == 1);
  CHECK(slow_value.stored());
  CHECK(cache.stats().fenced == 0);
}

TEST_CASE("a fetch whose first read was overtaken by another's whole load reads again instead of loading") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<std::string, watched_codec> cache{redis.client, {.envelope = tn::envelope::bare}};
  const tn::key k = portfolio_kpi(acme);
  redis.set(k, "corrupt");
  gate has_read;
  gate proceed;
  auto late = on_thread([&] {
    watched_codec::on_corrupt = [&] {
      has_read.open();
      proceed.wait();
    };
    return cache.fetch(k, [] { return "loaded twice"s; });
  });
  const support::opens_at_end cleanup{proceed};
  REQUIRE(has_read.wait());
  CHECK(cache.fetch(k, [] { return "loaded once"s; }).stored());
  proceed.open();
  const auto result = late.get();
  CHECK(*result == "loaded once");
  CHECK(result.source() == tn::source::redis);
  CHECK(result.stored());
  CHECK(cache.stats().loads == 1);
}

TEST_CASE("a loader that fetches its own key gets recursive_load, which names the key, and does not hang") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key k = portfolio_kpi(acme);
  tn::cache<kpi>* self = nullptr;
  tn::cache<kpi> cache{
      redis.client, {.failure_throttle = 0ms}, [&](const tn::key& which) { return *self->fetch(which); }};
  self = &cache;
  const auto check = [&](const std::exception_ptr& fault) {
    REQUIRE(fault);
    CHECK(code_of(fault) == tn::errc::recursive_load);
    try {
      std::rethrow_exception(fault);
    } catch (const std::exception& known) {
      CHECK(std::string{known.what()}.find(k.str()) != std::string::npos);
    }
  };
  check(support::thrown_by([&] { return cache.fetch(k); }));
  check(support::thrown_by([&] { return cache.fetch(k, [&] { return *cache.fetch(k, [] { return kpi{1}; }); }); }));
  tn::cache<kpi> between{redis.client, {.failure_throttle = 0ms}};
  check(support::thrown_by([&] {  // also through another cache and another key
    return cache.fetch(k, [&] { return *between.fetch(gateway_health(acme, 1), [&] { return *cache.fetch(k); }); });
  }));
  CHECK_FALSE(redis.holds(k));
  CHECK(cache.fetch(k, [] { return kpi{3}; }).stored());  // and the key works as before
}

TEST_CASE("a loader that handles recursive_load still answers") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key k = portfolio_kpi(acme);
  const auto result = cache.fetch(k, [&] {
    const auto fault = support::thrown_by([&] { return cache.fetch(k, [] { return kpi{1}; }); });
    return kpi{fault ? 2 : 1};
  });
  CHECK(result->property_count == 2);
  CHECK(result.stored());
}

TEST_CASE("a loader may fetch other keys, and the same key of another cache") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  tn::cache<kpi> other{redis.client};
  const tn::key outer = gateway_health(acme, "outer");
  const tn::key inner = gateway_health(acme, "inner");
  const auto result = cache.fetch(outer, [&] {
    const auto nested = cache.fetch(inner, [] { return kpi{1}; });
    CHECK(nested.stored());
    return kpi{nested->property_count + other.fetch(outer, [] { return kpi{10}; })->property_count};
  });
  CHECK(result->property_count == 11);
  CHECK(result.stored());
  CHECK(cache.get(inner).has_value());
}

TEST_CASE("loaders of many keys that all fetch one other key share a single load of it") {
  constexpr std::uint64_t loaders = 8;
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key shared = gateway_health(acme, "shared");
  std::atomic<std::uint64_t> outside{loaders};
  std::atomic<int> loads{0};
  gate all_inside;
  const auto shared_loader = [&] {
    ++loads;
    (void)eventually([&] { return cache.stats().waits == loaders - 1 || loads > 1; });
    return kpi{7};
  };
  std::vector<std::future<tn::cached<kpi>>> fetching;
  for (std::uint64_t i = 0; i < loaders; ++i) {
    fetching.push_back(on_thread([&, i] {
      return cache.fetch(gateway_health(acme, i), [&] {
        if (--outside == 0) all_inside.open();
        all_inside.wait();
        return *cache.fetch(shared, shared_loader);
      });
    }));
  }
  for (auto& each : fetching) CHECK(each.get()->property_count == 7);
  CHECK(loads == 1);
}

TEST_CASE("two loaders that fetch each other's key at the same time both end, with values") {
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  const tn::key a = gateway_health(acme, "a");
  const tn::key b = gateway_health(acme, "b");
  gate in_a;
  gate in_b;
  const auto crossed = [&](const tn::key& own, const tn::key& wanted, gate& mine, gate& theirs) {
    return cache.fetch(own, [&] {
      mine.open();
      theirs.wait();  // both loads are under way
      const auto nested = cache.fetch(wanted, [&] { return kpi{1, wanted.str()}; });
      return kpi{nested->unit == wanted.str() ? 1 : 0, own.str()};
    });
  };
  auto one = on_thread([&] { return crossed(a, b, in_a, in_b); });
  auto two = on_thread([&] { return crossed(b, a, in_b, in_a); });
  CHECK(*one.get() == kpi{1, a.str()});
  CHECK(*two.get() == kpi{1, b.str()});
}

TEST_CASE("loaders in a circle of any length end, with values") {
  const support::must_end ends;
  const redis_rig redis;
  for (std::size_t length = 2; length <= 5; ++length) {
    tn::cache<kpi> cache{redis.client};
    std::atomic<std::size_t> outside{length};
    gate all_inside;
    std::vector<std::future<tn::cached<kpi>>> fetching;
    for (std::size_t i = 0; i < length; ++i) {
      fetching.push_back(on_thread([&, i] {
        const tn::key next = gateway_health(acme, (i + 1) % length);
        return cache.fetch(gateway_health(acme, i), [&](const tn::key& own, tn::load_context& load) {
          load.do_not_store();
          if (--outside == 0) all_inside.open();
          all_inside.wait();
          const auto nested = cache.fetch(next, [&] { return kpi{1, next.str()}; });
          return kpi{nested->unit == next.str() ? 1 : 0, own.str()};
        });
      }));
    }
    for (std::size_t i = 0; i < length; ++i) CHECK(*fetching[i].get() == kpi{1, gateway_health(acme, i).str()});
    redis.client.execute("FLUSHALL");
  }
}

TEST_CASE("threads whose loaders fetch keys at random, four deep, always end and get the values of their keys") {
  constexpr std::uint64_t keys = 6;
  const support::must_end ends;
  const redis_rig redis;
  tn::cache<kpi> cache{redis.client};
  support::random_bytes random;
  std::atomic<int> wrong{0};
  std::vector<std::future<void>> running;
  for (int t = 0; t < 6; ++t) {
    running.push_back(on_thread([&, seed = random.number()] {
      std::mt19937_64 own{seed};
      std::vector<std::uint64_t> path;  // what this thread is loading
      const std::function<void()> fetch_any = [&] {
        const std::uint64_t wanted = own() % keys;
        if (path.size() == 4 || std::find(path.begin(), path.end(), wanted) != path.end()) return;
        path.push_back(wanted);
        const auto found = cache.fetch(gateway_health(acme, wanted), [&](const tn::key&, tn::load_context& load) {
          load.do_not_store();
          fetch_any();
          fetch_any();
          return kpi{static_cast<int>(wanted)};
        });
        path.pop_back();
        if (found->property_count != static_cast<int>(wanted)) ++wrong;
      };
      for (int i = 0; i < 150; ++i) fetch_any();
    }));
  }
  for (auto& each : running) each.get();
  CHECK(wrong == 0);
}

TEST_CASE("loaders that need each other's values without an end get recursive_load, in both threads") {
  const support::must_end ends;
  const redis_rig redis;
  const tn::key a = gateway_health(acme, "a");
  const tn::key b = gateway_health(acme, "b");
  gate in_a;
  gate in_b;
  tn::cache<kpi>* self = nullptr;
  tn::cache<kpi> cache{redis.client, {}, [&](const tn::key& which) {
                         const bool is_a = which == a;
                         (is_a ? in_a : in_b).open();
                         (is_a ? in_b : in_a).wait();
                         return *self->fetch(is_a ? b : a);
                       }};
  self = &cache;
  auto one = on_thread([&] { return support::thrown_by([&] { return cache.fetch(a); }); });
  auto two = on_thread([&] { return support::thrown_by([&] { return cache.fetch(b); }); });
  for (auto* each : {&one, &two}) {
    const std::exception_ptr fault = each->get();
    REQUIRE(fault);
    CHECK(code_of(fault) == tn::errc::recursive_load);
  }
}
