// What near caches promise about changes, for processes that read from memory, while connections are killed and the
// server is stopped, emptied and replaced.

#include "support/fault_proxy.hpp"
#include "support/near_rig.hpp"
#include "support/near_world.hpp"
#include "support/processes.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"
#include "support/sanitized.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using support::eventually;
using support::near_world::inhabitant;
using support::near_world::world;

constexpr std::size_t processes = 4;
constexpr auto slack = support::sanitized ? 500ms : 100ms;        // beyond max_age
constexpr auto push_delay = support::sanitized ? 2000ms : 500ms;  // of one message, on a busy machine

/// TENANTRY_COHERENCE_SECONDS: for a run that takes longer.
std::chrono::seconds length(std::chrono::seconds usual) {
  static const char* const wanted = std::getenv("TENANTRY_COHERENCE_SECONDS");
  return wanted != nullptr ? std::chrono::seconds{std::stoull(wanted)} : usual;
}

/// Processes that read and write until the end of the scope.
class population {
 public:
  population(world& shared, support::random_bytes& random, std::chrono::milliseconds max_age) : world_{&shared} {
    for (std::size_t number = 0; number < processes; ++number) {
      all_.emplace_back([&shared, number, max_age, seed = std::uint64_t{random.below(1U << 30U)}] {
        while (shared.port == 0) std::this_thread::sleep_for(1ms);
        const std::string url = "redis://127.0.0.1:" + std::to_string(shared.port);
        inhabitant{shared, url, number, seed, max_age}.live();
        return 0;
      });
    }
  }
  population(const population&) = delete;
  population& operator=(const population&) = delete;
  ~population() = default;

  void end() {
    world_->over = true;
    for (support::process& each : all_) CHECK(each.result() == 0);
  }

 private:
  world* world_;
  std::vector<support::process> all_;
};

bool fills(const world& seen) {
  const std::uint64_t before = seen.near_hits;
  return eventually([&] { return seen.near_hits > before + 1000; });
}

unsigned long long number(std::uint64_t of) { return of; }

void check_claims(const char* name, const world& seen) {
  std::printf(
      "near coherence, %s: %llu fetches, %llu near hits, %llu loads, %llu changes, %llu failed calls, %llu flushes, "
      "%llu too old, %llu older than own writes, the oldest %.1f ms behind; threads slept up to %.1f ms too long\n",
      name, number(seen.fetches), number(seen.near_hits), number(seen.loads), number(seen.changes), number(seen.failed),
      number(seen.flushes), number(seen.too_old), number(seen.not_own), static_cast<double>(seen.oldest) / 1000,
      static_cast<double>(seen.max_sleep) / 1000);
  INFO(seen.first_fault.data());
  CHECK(seen.too_old == 0);
  CHECK(seen.not_own == 0);
  CHECK(seen.near_hits > 0);
  CHECK(seen.loads > 0);
  CHECK(seen.changes > 0);
}

enum class fault : unsigned char { push, lane, lanes, stop, long_stop, flush, restart, full_table, silence };
constexpr std::size_t kinds = 9;

/// Does such things to a server, and counts them.
class mischief {
 public:
  mischief(tenantry::testing::redis_server& server, support::fault_proxy& proxy, support::random_bytes& random)
      : server_{&server}, proxy_{&proxy}, random_{&random}, redis_{server.unix_url()} {}

  void one() {
    const std::size_t kind = rounds_ < kinds ? rounds_ : random_->below(kinds);  // each at least once
    ++rounds_;
    const auto what = static_cast<fault>(kind);
    for (;;) {
      try {
        done_.at(kind) += does(what);
        return;
      } catch (const tenantry::error&) {  // NOLINT(bugprone-empty-catch): its own connection was killed as well
      }
    }
  }
  void print() const {
    constexpr std::array<const char*, kinds> names{"push connections killed",
                                                   "data connections killed",
                                                   "times all of these",
                                                   "stops",
                                                   "long stops",
                                                   "flushes",
                                                   "restarts",
                                                   "full tables",
                                                   "silences"};
    std::printf("near coherence, faults:");
    for (std::size_t kind = 0; kind < kinds; ++kind) std::printf(" %d %s;", done_[kind], names[kind]);
    std::printf("\n");
  }
  [[nodiscard]] bool all_happened() const {
    return std::ranges::all_of(done_, [](int n) { return n > 0; });
  }

 private:
  int does(fault what) {
    const auto nap = [&](int least, std::size_t more) {
      std::this_thread::sleep_for(std::chrono::milliseconds{least + static_cast<int>(random_->below(more))});
    };
    switch (what) {
      case fault::push:
        return static_cast<int>(redis_.execute("CLIENT", "KILL", "TYPE", "pubsub").integer());
      case fault::lane: {
        auto all = support::connections(redis_);
        std::erase_if(all, [](const auto& each) { return !each.tracks; });
        if (all.empty()) return 0;
        return static_cast<int>(redis_.execute("CLIENT", "KILL", "ID", all[random_->below(all.size())].id).integer());
      }
      case fault::lanes:
        return redis_.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").integer() > 0 ? 1 : 0;
      case fault::stop:
      case fault::long_stop:
        server_->pause();
        what == fault::stop ? nap(50, 350) : nap(1200, 300);
        server_->resume();
        return 1;
      case fault::flush:
        redis_.execute("FLUSHALL");
        return 1;
      case fault::restart:
        server_->kill();
        nap(0, 100);
        server_->start();
        return 1;
      case fault::full_table:
        redis_.execute("CONFIG", "SET", "tracking-table-max-keys", 1);
        nap(100, 100);
        redis_.execute("CONFIG", "SET", "tracking-table-max-keys", 1'000'000);
        return 1;
      case fault::silence:
        for (const auto& each : support::connections(redis_)) {
          if (!each.listens) continue;
          proxy_->apply_to(each.port, support::flow::to_client, {.carries = support::faults::transport::swallows});
        }
        nap(500, 1500);  // so that max_age has to do
        return 1;
    }
    return 0;
  }

  tenantry::testing::redis_server* server_;
  support::fault_proxy* proxy_;
  support::random_bytes* random_;
  tenantry::client redis_;
  std::size_t rounds_ = 0;
  std::array<int, kinds> done_{};
};

}  // namespace

TEST_CASE("near: while connections stand no fetch is further behind than a message takes, and none behind own writes") {
  support::need_redis();
  const tenantry::testing::redis_server server;
  const support::shared_memory<world> shared;
  shared->bound = push_delay / 1us;
  support::random_bytes random;
  population all{*shared, random, 60s};
  shared->port = server.port();
  const tenantry::client direct{server.unix_url()};
  CHECK(fills(*shared));
  const auto until = steady_clock::now() + length(8s);
  for (bool full = true; steady_clock::now() < until; full = !full) {
    std::this_thread::sleep_for(std::chrono::milliseconds{200 + random.below(600)});  // paces the changes
    direct.execute("CONFIG", "SET", "tracking-table-max-keys", full ? 1 : 1'000'000);
  }
  all.end();
  check_claims("undisturbed", *shared);
  CHECK(shared->failed == 0);
  CHECK(shared->flushes == 0);
}

TEST_CASE("near: whatever happens to connections and server, no fetch is further behind than max_age") {
  support::need_redis();
  constexpr auto max_age = 1000ms;
  tenantry::testing::redis_server server;
  const support::shared_memory<world> shared;
  shared->bound = (max_age + slack) / 1us;
  support::random_bytes random;
  population all{*shared, random, max_age};
  support::fault_proxy proxy{server.port()};
  shared->port = proxy.port();
  mischief faults{server, proxy, random};
  CHECK(fills(*shared));
  const auto until = steady_clock::now() + length(14s);
  while (steady_clock::now() < until || !faults.all_happened()) {
    if (steady_clock::now() > until + 30s) break;
    std::this_thread::sleep_for(std::chrono::milliseconds{20 + random.below(300)});  // paces the faults
    faults.one();
  }
  CHECK(fills(*shared));
  all.end();
  faults.print();
  check_claims("under faults", *shared);
  CHECK(faults.all_happened());
  CHECK(shared->flushes > 0);
}
