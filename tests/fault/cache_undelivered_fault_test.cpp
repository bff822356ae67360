// Threads that change a database, invalidate and fetch, while Redis is frozen, killed and started again, unreachable,
// or takes no writes: nothing older than an invalidation that was done or queued is given by a fetch that began after
// it.

#include "support/concurrency.hpp"
#include "support/fault_proxy.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;

constexpr key_schema<"row:{tenant}:of:{id}"> row_of;

constexpr std::size_t threads = 8;
constexpr std::size_t tenants = 4;
constexpr std::size_t rows_of_tenant = 50;
constexpr std::size_t rows = tenants * rows_of_tenant;
constexpr std::size_t tags = 5;

std::string tag_of(std::size_t n) { return "group:" + std::to_string(n % tags); }

/// A row of the database, its version, and what a fetch that begins now may give at least. Both only grow.
struct row {
  tenant_id tenant;
  key at;
  std::atomic<std::uint64_t> version{1};
  std::atomic<std::uint64_t> least{0};
};

struct counts {
  std::atomic<std::uint64_t> fetches{0};
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> without_redis{0};
  std::atomic<std::uint64_t> unanswered{0};  // gets
  std::atomic<std::uint64_t> loads{0};
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::uint64_t> queued{0};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::uint64_t> too_old{0};
};

class world {
 public:
  world() {
    for (std::size_t n = 0; n < rows; ++n) {
      const tenant_id tenant{"tenant" + std::to_string(n / rows_of_tenant)};
      table_.push_back(std::make_unique<row>(tenant, row_of(tenant, n)));
    }
  }
  [[nodiscard]] row& at(std::size_t n) { return *table_[n]; }
  [[nodiscard]] static std::size_t number_of(const key& k) {
    return static_cast<std::size_t>(std::stoull(k.str().substr(k.str().rfind(':') + 1)));
  }
  void describe(const std::string& what) {
    const std::lock_guard held{mutex_};
    if (first_.empty()) first_ = what;
  }
  [[nodiscard]] std::string first_too_old() {
    const std::lock_guard held{mutex_};
    return first_;
  }

  counts seen;
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> seeds{0};

 private:
  std::vector<std::unique_ptr<row>> table_;
  std::mutex mutex_;
  std::string first_;
};

void raise(std::atomic<std::uint64_t>& to, std::uint64_t least) {
  std::uint64_t now = to;
  while (now < least && !to.compare_exchange_weak(now, least)) {
  }
}

class worker {
 public:
  worker(world& of, cache<std::string>& values, const invalidator& inv, std::uint64_t seed)
      : world_{of}, values_{values}, inv_{inv}, random_{seed} {}

  void run() {
    while (!world_.over) {
      const std::size_t choice = below(1000);
      const std::size_t n = below(rows);
      if (choice < 450) {
        fetch(n, false);
      } else if (choice < 600) {
        fetch(n, true);
      } else if (choice < 700) {
        fetch_some();
      } else if (choice < 880) {
        get(n);
      } else {
        change(n, choice);
      }
    }
  }

 private:
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }

  void check(std::size_t n, std::uint64_t least, const cached<std::string>& found) {
    ++world_.seen.fetches;
    if (found.source() == source::redis) ++world_.seen.hits;
    if (found.failure() != nullptr) ++world_.seen.without_redis;
    const std::uint64_t version = std::stoull(*found);
    if (version >= least) return;
    ++world_.seen.too_old;
    world_.describe("row " + std::to_string(n) + " gave version " + std::to_string(version) + " (" +
                    std::string{to_string(found.source())} + (found.failure() != nullptr ? ", without Redis" : "") +
                    ") instead of " + std::to_string(least));
  }

  void fetch(std::size_t n, bool by_coroutine) {
    const std::uint64_t least = world_.at(n).least;
    const key& k = world_.at(n).at;
    check(n, least, by_coroutine ? sync_wait(values_.async_fetch(k)) : values_.fetch(k));
  }

  void fetch_some() {
    std::vector<key> keys;
    std::vector<std::pair<std::size_t, std::uint64_t>> asked;
    for (std::size_t i = 0; i < 5; ++i) {
      const std::size_t n = below(rows);
      asked.emplace_back(n, world_.at(n).least);
      keys.push_back(world_.at(n).at);
    }
    const auto found = values_.fetch_many(keys);
    for (std::size_t i = 0; i < keys.size(); ++i) check(asked[i].first, asked[i].second, found[i]);
  }

  void get(std::size_t n) {
    const std::uint64_t least = world_.at(n).least;
    try {
      if (const auto found = values_.get(world_.at(n).at)) check(n, least, *found);
    } catch (const error&) {
      ++world_.seen.unanswered;
    }
  }

  /// A commit, an invalidation, and only then the claim that it holds.
  void change(std::size_t n, std::size_t choice) {
    const row& changed = world_.at(n);
    const bool of_tenant = choice == 998;
    const bool of_tag = choice == 999;
    const bool softly = below(2) == 0;
    const bool by_coroutine = below(3) == 0;
    std::vector<std::pair<std::size_t, std::uint64_t>> committed;
    for (std::size_t each = 0; each < rows; ++each) {
      const bool same_tenant = world_.at(each).tenant == changed.tenant;
      const bool concerned = of_tenant ? same_tenant : of_tag ? same_tenant && tag_of(each) == tag_of(n) : each == n;
      if (concerned) committed.emplace_back(each, ++world_.at(each).version);
    }
    try {
      const delivery how = of_tenant ? tell(changed.tenant, softly, by_coroutine)
                           : of_tag  ? tell(tag{changed.tenant, tag_of(n)}, softly, by_coroutine)
                                     : tell(changed.at, softly, by_coroutine);
      ++(how == delivery::done ? world_.seen.done : world_.seen.queued);
    } catch (const error&) {
      ++world_.seen.refused;
      return;
    }
    for (const auto& [each, version] : committed) raise(world_.at(each).least, version);
  }

  template <class What>
  delivery tell(const What& what, bool softly, bool by_coroutine) {
    if (by_coroutine) return sync_wait(softly ? inv_.async_expire(what) : inv_.async_invalidate(what));
    return softly ? inv_.expire(what) : inv_.invalidate(what);
  }
  delivery tell(const key& what, bool softly, bool by_coroutine) {
    if (by_coroutine) return sync_wait(softly ? values_.async_expire(what) : values_.async_invalidate(what));
    return softly ? values_.expire(what) : values_.invalidate(what);
  }

  world& world_;
  cache<std::string>& values_;
  const invalidator& inv_;
  std::mt19937_64 random_;
};

/// In all of them but a kill Redis keeps what it has, and may be asked again before it is told what is queued.
class outages {
 public:
  static constexpr std::size_t kinds = 4;

  outages(testing::redis_server& server, support::fault_proxy& proxy) : server_{server}, proxy_{proxy} {}

  void one(std::size_t kind, std::chrono::milliseconds lasting) {
    ++count[kind];
    switch (kind) {
      case 0:
        server_.pause();
        std::this_thread::sleep_for(lasting);
        server_.resume();
        break;
      case 1:
        server_.kill();
        std::this_thread::sleep_for(lasting);
        server_.start();
        break;
      case 2:
        proxy_.refuse();
        proxy_.reset();
        std::this_thread::sleep_for(lasting);
        proxy_.heal();
        break;
      default:
        CHECK(support::ask(server_, "REPLICAOF 127.0.0.1 1") == "+OK");
        std::this_thread::sleep_for(lasting);
        CHECK(support::ask(server_, "REPLICAOF NO ONE") == "+OK");
    }
  }

  std::array<int, kinds> count{};

 private:
  testing::redis_server& server_;
  support::fault_proxy& proxy_;
};

/// A query that takes a few milliseconds, and sometimes as long as an outage.
std::string load(world& of, const key& k, load_context& context) {
  ++of.seen.loads;
  const std::size_t n = of.number_of(k);
  context.tag(tag_of(n));
  std::mt19937_64 random{of.seeds++};
  const std::uint64_t version = of.at(n).version;
  std::this_thread::sleep_for(std::chrono::milliseconds{random() % 100 == 0 ? 100 + random() % 900 : random() % 6});
  return std::to_string(version);
}

}  // namespace

TEST_CASE("no fetch gives what is older than an invalidation, done or queued, through outages of Redis") {
  support::need_redis();
  const support::must_end ends{110s};
  support::random_bytes random;
  testing::redis_server server;
  world all;
  all.seeds = random.number();
  support::fault_proxy proxy{server.port()};
  client_options options = client_options::from_url(proxy.url());
  options.timeout = 150ms;
  options.breaker = {.open_for = 20ms, .longest_open_for = 200ms};
  thread_pool loaders{8};
  const client redis{options};
  cache<std::string> values{redis,
                            {.ttl = 2s,
                             .refresh_ahead = 0.5,
                             .lease_ttl = 500ms,
                             .lease_wait = 500ms,
                             .executor = loaders.get_executor(),
                             .undelivered = undelivered::queue},
                            [&](const key& k, load_context& context) { return load(all, k, context); }};
  const invalidator inv{redis, catalog{row_of}, undelivered::queue};

  std::vector<std::thread> running;
  for (std::size_t t = 0; t < threads; ++t) {
    running.emplace_back([&, seed = random.number()] { worker{all, values, inv, seed}.run(); });
  }
  outages away{server, proxy};
  for (std::size_t round = 0; round < 24; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds{random.below(500)});  // paces the outages
    away.one(round % outages::kinds, std::chrono::milliseconds{50 + random.below(500)});
  }
  std::this_thread::sleep_for(300ms);
  all.over = true;
  for (std::thread& each : running) each.join();

  const counts& seen = all.seen;
  std::printf(
      "undelivered: %llu fetches, %llu too old, %llu hits, %llu without Redis, %llu loads; %llu invalidations done, "
      "%llu "
      "queued; %d freezes, %d kills, %d times unreachable, %d without writes\n",
      static_cast<unsigned long long>(seen.fetches), static_cast<unsigned long long>(seen.too_old),
      static_cast<unsigned long long>(seen.hits), static_cast<unsigned long long>(seen.without_redis),
      static_cast<unsigned long long>(seen.loads), static_cast<unsigned long long>(seen.done),
      static_cast<unsigned long long>(seen.queued), away.count[0], away.count[1], away.count[2], away.count[3]);
  INFO(all.first_too_old());
  CHECK(seen.too_old == 0);
  CHECK(seen.refused == 0);
  CHECK(seen.hits > 0);
  CHECK(seen.without_redis > 0);
  CHECK(seen.done > 0);
  CHECK(seen.queued > 0);
  CHECK(support::eventually([&] { return inv.queued() == 0; }));
  for (std::size_t n = 0; n < rows; ++n) {
    CHECK(support::eventually([&] { return values.fetch(all.at(n).at).stored(); }));
    CHECK(std::stoull(*values.fetch(all.at(n).at)) == all.at(n).version);
  }
}
