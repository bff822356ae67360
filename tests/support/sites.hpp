#pragma once
// Another process, as far as Redis and a cache can tell: a client of its own.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/kpi.hpp"
#include "support/sanitized.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <string>
#include <utility>
#include <vector>

namespace support {

inline tenantry::client_options patient_options() {
  tenantry::client_options options = tenantry::client_options::from_url(redis_rig::server().url());
  options.timeout = std::chrono::seconds{20};  // on a busy machine too, Redis answers every call
  return options;
}

/// Of a process that lives it is renewed in time, on a busy machine too, and after one that died it is over soon.
inline constexpr std::chrono::milliseconds brief_lease{sanitized ? 1500 : 500};

/// A client and a cache. For the tests that say nothing else, waiting for another's load ends with the load only: not
/// with a lease that might have to be asked for again, unless the test chose how long it lives.
struct site {
  static tenantry::cache_options waiting(tenantry::cache_options options = {}) {
    options.lease_wait = std::chrono::seconds{60};  // longer than a test may take
    if (options.lease_ttl == tenantry::cache_options{}.lease_ttl) options.lease_ttl = std::chrono::seconds{60};
    return options;
  }

  explicit site(tenantry::cache_options options = waiting(), tenantry::client_options how = patient_options())
      : redis{std::move(how)}, cache{redis, options} {}

  /// Commands of blocking calls and coroutines so far.
  [[nodiscard]] std::uint64_t commands() const {
    std::uint64_t all = 0;
    for (const auto& lane : redis.metrics().lanes) all += lane.commands;
    return all;
  }

  tenantry::client redis;
  tenantry::cache<kpi> cache;
};

/// A fetch at a site whose loader has begun and does not end before `finish`.
class load_held {
 public:
  load_held(site& at, const tenantry::key& k, kpi value, std::vector<std::string> tags = {})
      : loading_{on_thread([this, &at, k, value = std::move(value), tags = std::move(tags)] {
          return at.cache.fetch(k, [&](const tenantry::key&, tenantry::load_context& load) {
            for (const std::string& name : tags) load.tag(name);
            inside_.open();
            release_.wait();
            return value;
          });
        })} {
    REQUIRE(inside_.wait());
  }
  load_held(const load_held&) = delete;
  load_held& operator=(const load_held&) = delete;
  ~load_held() { release_.open(); }

  tenantry::cached<kpi> finish() {
    release_.open();
    return loading_.get();
  }

 private:
  gate inside_;
  gate release_;
  std::future<tenantry::cached<kpi>> loading_;
};

/// A fetch at a site that has begun to wait for another's load. Its own loader gives `own`.
class waiting_fetch {
 public:
  waiting_fetch(site& at, const tenantry::key& k, kpi own) {
    const auto before = at.cache.stats().waits;
    fetching_ = on_thread([this, &at, k, own = std::move(own)] {
      return at.cache.fetch(k, [this, own] {
        ++loads_;
        return own;
      });
    });
    waits_ = eventually([&] { return at.cache.stats().waits > before; });
    CHECK(waits_);
  }
  waiting_fetch(const waiting_fetch&) = delete;
  waiting_fetch& operator=(const waiting_fetch&) = delete;

  [[nodiscard]] int loads() const { return loads_; }
  tenantry::cached<kpi> result() { return fetching_.get(); }

 private:
  std::atomic<int> loads_{0};
  bool waits_ = false;
  std::future<tenantry::cached<kpi>> fetching_;
};

}  // namespace support
