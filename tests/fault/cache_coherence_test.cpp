// What a cache promises about invalidations, with processes that are stopped and killed at any moment.

#include "support/processes.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;

constexpr key_schema<"row:{tenant}:of:{id}"> row_of;

constexpr std::size_t processes = 3;
constexpr std::size_t threads = 3;
constexpr std::size_t rows = 4;

/// TENANTRY_COHERENCE_OPERATIONS: for a run that takes longer.
std::uint64_t operations() {
  static const char* const wanted = std::getenv("TENANTRY_COHERENCE_OPERATIONS");
  static const std::uint64_t all = wanted != nullptr ? std::stoull(wanted) : 6000;
  return all;
}

/// The key of a row, and what invalidates it. The values of the last are also put; as these have no tags, its loader
/// gives none either.
struct row {
  tenant_id tenant;
  key at;
  std::vector<std::string> tags;
};
const std::array<row, rows>& table() {
  static const tenant_id acme{"acme"};
  static const tenant_id acme2{"acme2"};
  static const std::array<row, rows> all{{{acme, row_of(acme, 1), {"red"}},
                                          {acme, row_of(acme, 2), {"red", "blue"}},
                                          {acme2, row_of(acme2, 1), {"blue"}},
                                          {acme2, row_of(acme2, 2), {}}}};
  return all;
}
constexpr std::size_t put_row = rows - 1;

/// The database, and what the cache may still give: both only grow.
struct row_state {
  std::atomic<std::uint64_t> version{1};
  std::atomic<std::uint64_t> hard{0};  ///< fetches that begin now give nothing older
  std::atomic<std::uint64_t> soft{0};  ///< nothing older other than as a stale copy
};

struct world {
  std::array<row_state, rows> database;
  std::atomic<std::uint64_t> begun{0};  ///< operations
  std::atomic<std::uint64_t> fetches{0};
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> loads{0};
  std::atomic<std::uint64_t> stale_copies{0};
  std::atomic<std::uint64_t> failed{0};      ///< fetches that gave no value because a load failed
  std::atomic<std::uint64_t> late{0};        ///< fetches that a load took too long for
  std::atomic<std::uint64_t> unanswered{0};  ///< fetches for which Redis could not be asked: nothing is promised
  std::atomic<std::uint64_t> changes{0};
  std::atomic<std::uint64_t> puts{0};
  std::atomic<std::uint64_t> refused_puts{0};
  std::atomic<std::uint64_t> too_old{0};
  std::atomic<bool> described{false};
  std::array<char, 200> first_too_old{};
};

struct load_fault {};

void raise(std::atomic<std::uint64_t>& to, std::uint64_t least) {
  std::uint64_t now = to;
  while (now < least && !to.compare_exchange_weak(now, least)) {
  }
}

/// What one thread of one process does.
class worker {
 public:
  worker(world& shared, const client& redis, cache<std::string>& values, std::uint64_t seed, bool changes_put_row)
      : world_{&shared}, inv_{redis, catalog{row_of}}, values_{&values}, random_{seed}, owner_{changes_put_row} {}

  void run() {
    while (world_->begun++ < operations()) {
      try {
        one();
      } catch (const load_fault&) {
        ++world_->failed;
      } catch (const load_failed&) {
        ++world_->failed;
      } catch (const timeout_error& late) {
        if (late.code() != errc::load_timeout) throw;
        ++world_->late;
      }
    }
  }

 private:
  struct floors {
    std::uint64_t hard;
    std::uint64_t soft;
  };

  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }
  [[nodiscard]] floors floors_of(std::size_t n) const {
    return {.hard = world_->database[n].hard, .soft = world_->database[n].soft};
  }

  void one() {
    const std::size_t n = below(rows);
    const key& k = table()[n].at;
    const std::size_t choice = below(100);
    if (choice < 60) {
      const floors before = floors_of(n);
      check("fetch", n, before, values_->fetch(k));
    } else if (choice < 70) {
      const floors before = floors_of(n);
      auto fetching = values_->async_fetch(k);
      check("async_fetch", n, before, sync_wait(std::move(fetching)));
    } else if (choice < 78) {
      fetch_all();
    } else if (choice < 84) {
      const floors before = floors_of(n);
      if (const auto found = values_->get(k)) check("get", n, before, *found);
    } else if (choice < 90) {
      put();
    } else {
      change(n);
    }
  }

  void fetch_all() {
    std::vector<key> keys;
    std::vector<floors> before;
    for (std::size_t n = 0; n < rows; ++n) {
      keys.push_back(table()[n].at);
      before.push_back(floors_of(n));
    }
    auto fetching = values_->async_fetch_many(keys);
    const auto found = below(2) == 0 ? values_->fetch_many(keys) : sync_wait(std::move(fetching));
    for (std::size_t n = 0; n < rows; ++n) check("fetch_many", n, before[n], found[n]);
  }

  void check(const char* how, std::size_t n, floors before, const cached<std::string>& found) {
    ++world_->fetches;
    if (found.failure() != nullptr) {
      ++world_->unanswered;
      return;
    }
    if (found.source() == source::redis) ++world_->hits;
    if (found.source() == source::stale) ++world_->stale_copies;
    const std::uint64_t version = std::stoull(*found);
    if (version >= before.hard && (found.source() == source::stale || version >= before.soft)) return;
    ++world_->too_old;
    if (world_->described.exchange(true)) return;
    std::snprintf(world_->first_too_old.data(), world_->first_too_old.size(),
                  "%s of row %zu gave version %llu (%s), not below %llu, or %llu as a stale copy", how, n,
                  static_cast<unsigned long long>(version), std::string{to_string(found.source())}.c_str(),
                  static_cast<unsigned long long>(before.soft), static_cast<unsigned long long>(before.hard));
  }

  /// A commit, an invalidation, and only then the claim that it holds. A process that is stopped or killed in between
  /// claims nothing.
  void change(std::size_t n) {
    const row& changed = table()[n];
    const bool softly = below(2) == 0;
    const bool of_tag = !changed.tags.empty() && below(3) == 0;
    const bool of_tenant = !of_tag && below(2) == 0;
    const std::string tag_name = of_tag ? changed.tags[below(changed.tags.size())] : "";
    std::array<std::uint64_t, rows> committed{};
    for (std::size_t each = 0; each < rows; ++each) {
      const row& other = table()[each];
      const bool reached = (each == n && !of_tag && !of_tenant) || (of_tenant && other.tenant == changed.tenant) ||
                           (of_tag && other.tenant == changed.tenant &&
                            std::find(other.tags.begin(), other.tags.end(), tag_name) != other.tags.end());
      if (!reached) continue;
      const bool may_change = each != put_row || owner_;
      std::atomic<std::uint64_t>& version = world_->database[each].version;
      committed[each] = may_change ? ++version : version.load();
    }
    if (of_tag) {
      const tag what{changed.tenant, tag_name};
      softly ? inv_.expire(what) : inv_.invalidate(what);
    } else if (of_tenant) {
      softly ? inv_.expire(changed.tenant) : inv_.invalidate(changed.tenant);
    } else {
      softly ? values_->expire(changed.at) : values_->invalidate(changed.at);
    }
    for (std::size_t each = 0; each < rows; ++each) {
      raise(world_->database[each].soft, committed[each]);
      if (!softly) raise(world_->database[each].hard, committed[each]);
    }
    ++world_->changes;
  }

  /// Without a ticket only by the one thread that changes the row: nobody else knows what is current.
  void put() {
    const key& k = table()[put_row].at;
    std::atomic<std::uint64_t>& version = world_->database[put_row].version;
    if (owner_) {
      const std::uint64_t current = below(2) == 0 ? ++version : version.load();
      values_->put(k, std::to_string(current));
      raise(world_->database[put_row].hard, current);
      raise(world_->database[put_row].soft, current);
      ++world_->puts;
      return;
    }
    const load_ticket ticket = values_->begin(k);
    const std::uint64_t current = version;
    std::this_thread::sleep_for(std::chrono::milliseconds{below(5)});  // what a query takes
    values_->put(k, std::to_string(current), ticket) ? ++world_->puts : ++world_->refused_puts;
  }

  world* world_;
  invalidator inv_;
  cache<std::string>* values_;
  std::mt19937_64 random_;
  bool owner_;
};

std::string load(world& shared, std::atomic<std::uint64_t>& random, const key& k, load_context& context) {
  ++shared.loads;
  std::mt19937_64 own{random++};
  std::size_t n = 0;
  while (!(table()[n].at == k)) ++n;
  for (const std::string& name : table()[n].tags) context.tag(name);
  const std::uint64_t version = shared.database[n].version;
  std::this_thread::sleep_for(std::chrono::milliseconds{own() % 31});  // what a query takes
  if (own() % 8 == 0) throw load_fault{};
  return std::to_string(version);
}

int run_process(world& shared, const std::string& url, std::size_t number, std::uint64_t seed) {
  client_options options = client_options::from_url(url);
  options.timeout = 30s;  // nothing is promised for a fetch that Redis did not answer in time
  const client redis{options};
  std::atomic<std::uint64_t> loader_seed{seed};
  thread_pool loaders{2};
  cache_options how{.ttl = 300ms,
                    .stale_for = 20s,
                    .refresh_ahead = 0.5,
                    .lease_ttl = 100ms,
                    .lease_wait = 150ms,
                    .failure_throttle = 20ms};
  if (number != 0) {  // some processes load in the background, and leave loads behind
    how.executor = loaders.get_executor();
    how.refresh_beta = 1;
    how.soft_timeout = 5ms;
    how.hard_timeout = 60ms;
  }
  cache<std::string> values{redis, how,
                            [&](const key& k, load_context& context) { return load(shared, loader_seed, k, context); }};
  std::vector<std::thread> running;
  for (std::size_t t = 0; t < threads; ++t) {
    running.emplace_back([&, t] { worker{shared, redis, values, seed + 1000 * t, number == 0 && t == 0}.run(); });
  }
  for (std::thread& each : running) each.join();
  return 0;
}

}  // namespace

TEST_CASE("no fetch gives what was invalidated before it began, through stops and kills of processes") {
  support::need_redis();
  const testing::redis_server server;
  const support::shared_memory<world> shared;
  support::random_bytes random;
  const auto begin = [&](std::size_t number) {
    return support::process{[&, seed = std::uint64_t{random.below(1U << 30U)}] {
      return run_process(*shared, server.url(), number, seed);
    }};
  };
  std::vector<support::process> running;
  for (std::size_t number = 0; number < processes; ++number) running.push_back(begin(number));

  const auto deadline = std::chrono::steady_clock::now() + 60s * (1 + operations() / 6000);
  int stops = 0;
  int kills = 0;
  while (shared->begun < operations() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds{5 + random.below(40)});  // paces the faults
    const std::size_t number = random.below(processes);
    if (random.below(3) == 0) {
      running[number].kill();  // first, so that the last row never has two owners
      running[number] = begin(number);
      ++kills;
    } else if (running[number].pause()) {
      std::this_thread::sleep_for(std::chrono::milliseconds{random.below(250)});
      running[number].resume();
      ++stops;
    }
  }
  for (support::process& each : running) CHECK(each.result() == 0);

  const world& seen = *shared;
  std::printf(
      "coherence: %llu fetches, %llu stale reads, %.0f %% hits, %llu stale copies, %llu loads, %llu failed, "
      "%llu late, %llu changes, %llu puts and %llu refused, %d stops, %d kills\n",
      static_cast<unsigned long long>(seen.fetches), static_cast<unsigned long long>(seen.too_old),
      100.0 * static_cast<double>(seen.hits) / static_cast<double>(seen.fetches),
      static_cast<unsigned long long>(seen.stale_copies), static_cast<unsigned long long>(seen.loads),
      static_cast<unsigned long long>(seen.failed), static_cast<unsigned long long>(seen.late),
      static_cast<unsigned long long>(seen.changes), static_cast<unsigned long long>(seen.puts),
      static_cast<unsigned long long>(seen.refused_puts), stops, kills);
  INFO(seen.first_too_old.data());
  CHECK(seen.too_old == 0);
  CHECK(seen.begun >= operations());
  CHECK(seen.unanswered == 0);
  CHECK(seen.hits > 0);
  CHECK(seen.loads > 0);
  CHECK(seen.changes > 0);
  CHECK(seen.puts > 0);
  CHECK(stops > 0);
  CHECK(kills > 0);
}
