#pragma once
// What processes with near caches share while they are checked, and what each of them does.

#include "support/kpi.hpp"
#include "support/near_rig.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/task.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace support::near_world {

using namespace std::chrono_literals;
using tenantry::key;
using tenantry::source;

inline constexpr tenantry::key_schema<"row:{tenant}:of:{id}"> row_of;
inline constexpr tenantry::key_schema<"raw:{tenant}:of:{id}"> raw_of;

/// Rows whose values a loader computes; the last of them is also put, by one process only. Then a row that other
/// programs write, without an envelope.
inline constexpr std::size_t loaded = 5;
inline constexpr std::size_t put_row = loaded - 1;
inline constexpr std::size_t raw_row = loaded;
inline constexpr std::size_t rows = loaded + 1;
/// Versions of a row that there may be.
inline constexpr std::size_t versions = 1U << 16U;

struct row {
  tenantry::tenant_id tenant;
  key at;
  std::vector<std::string> tags;
};
inline const std::array<row, rows>& table() {
  static const tenantry::tenant_id acme1{"acme"};
  static const tenantry::tenant_id acme2{"acme2"};
  static const std::array<row, rows> all{{{acme1, row_of(acme1, 1), {"red"}},
                                          {acme1, row_of(acme1, 2), {"red", "blue"}},
                                          {acme2, row_of(acme2, 1), {"blue"}},
                                          {acme2, row_of(acme2, 2), {}},
                                          {acme2, row_of(acme2, 3), {}},
                                          {acme1, raw_of(acme1, 1), {}}}};
  return all;
}

/// The steady clock, which is one for all processes, in microseconds.
inline std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// The database: its version, and since when each version is committed and announced. Both only grow.
struct row_state {
  std::atomic<std::uint64_t> version{1};
  std::array<std::atomic<std::int64_t>, versions> since{};

  /// A version that is announced by the time that this is called.
  void commit(std::uint64_t which) {
    std::int64_t never = 0;
    since.at(which).compare_exchange_strong(never, now());
  }
  /// How long before `at` something newer than this version was announced, in microseconds; 0: it was the newest.
  [[nodiscard]] std::int64_t behind(std::uint64_t which, std::int64_t at) const {
    std::int64_t most = 0;
    const std::uint64_t last = version;
    for (std::uint64_t newer = which + 1; newer <= last; ++newer) {
      const std::int64_t announced = since.at(newer);
      if (announced != 0) most = std::max(most, at - announced);
    }
    return most;
  }
};

struct world {
  std::array<row_state, rows> database;
  std::atomic<bool> over{false};
  std::atomic<std::uint16_t> port{0};  ///< where the server is; 0: not yet known
  std::atomic<std::int64_t> bound{0};  ///< how far behind a fetch may be
  std::atomic<std::uint64_t> fetches{0};
  std::atomic<std::uint64_t> near_hits{0};
  std::atomic<std::uint64_t> loads{0};
  std::atomic<std::uint64_t> changes{0};
  std::atomic<std::uint64_t> failed{0};  ///< calls for which Redis was not there
  std::atomic<std::uint64_t> too_old{0};
  std::atomic<std::uint64_t> not_own{0};   ///< older than what the process itself had written
  std::atomic<std::int64_t> oldest{0};     ///< how far behind a fetch was, at most
  std::atomic<std::int64_t> max_sleep{0};  ///< how long the machine let a thread wait beyond its time
  std::atomic<std::uint64_t> flushes{0};
  std::atomic<bool> described{false};
  std::array<char, 200> first_fault{};
};

template <class T>
void raise(std::atomic<T>& to, T least) {
  T now_there = to;
  while (now_there < least && !to.compare_exchange_weak(now_there, least)) {
  }
}

/// One process: two caches of one client, an invalidator of another, and a client that writes past them.
class inhabitant {
 public:
  inhabitant(world& shared, const std::string& url, std::size_t number, std::uint64_t seed,
             std::chrono::milliseconds max_age)
      : world_{&shared},
        options_{patient(url)},
        redis_{options_},
        second_{options_},
        raw_{options_},
        values_{redis_, near_by({.ttl = 10min, .lease_ttl = 200ms}, {.max_age = max_age}),
                [this](const key& k, tenantry::load_context& context) { return load(k, context); }},
        bare_{redis_, bare_near_by({.max_age = max_age})},
        seed_{seed},
        owner_{number == 0} {}

  void live() {
    std::vector<std::thread> all;
    for (std::uint64_t t = 0; t < 3; ++t) {
      all.emplace_back([this, t] { run(std::mt19937_64{seed_ + t}, t == 0 && owner_); });
    }
    for (std::thread& each : all) each.join();
    const auto seen = values_.near_stats();
    world_->flushes += seen.flushes_push_lost + seen.flushes_lane_lost + seen.flushes_by_server;
  }

 private:
  using random = std::mt19937_64;

  static tenantry::client_options patient(const std::string& url) {
    auto how = tenantry::client_options::from_url(url);
    how.timeout = 5s;
    return how;
  }
  static std::size_t below(random& from, std::size_t limit) { return static_cast<std::size_t>(from() % limit); }

  void run(random from, bool puts) {
    while (!world_->over) {
      const auto wake = std::chrono::steady_clock::now() + 300us;
      std::this_thread::sleep_until(wake);  // paces: leaves the machine to the others
      raise(world_->max_sleep, std::int64_t{(std::chrono::steady_clock::now() - wake) / 1us});
      try {
        one(from, puts);
      } catch (const tenantry::error&) {
        ++world_->failed;
      }
    }
  }

  void one(random& from, bool puts) {
    const std::size_t n = below(from, rows);
    const std::size_t choice = below(from, 1000);
    if (choice < 985) {
      read(n, choice);
    } else if (n == raw_row) {
      change_raw();
    } else if (n == put_row && puts) {
      put();
    } else {
      change(n, from);
    }
  }

  void read(std::size_t n, std::size_t choice) {
    const key& k = table()[n].at;
    if (n == raw_row) {
      const std::uint64_t own = own_[n];
      const std::int64_t begun = now();
      if (choice % 4 == 0) {
        auto getting = bare_.async_get(k);
        if (const auto found = tenantry::sync_wait(std::move(getting))) check("async_get", n, own, begun, *found);
      } else if (const auto found = bare_.get(k)) {
        check("get", n, own, begun, *found);
      }
      return;
    }
    if (choice % 10 == 0) {
      std::vector<key> keys;
      std::array<std::uint64_t, rows> own{};
      for (std::size_t each = 0; each < loaded; ++each) {
        keys.push_back(table()[each].at);
        own[each] = own_[each];
      }
      const std::int64_t begun = now();
      const auto found = values_.fetch_many(keys);
      for (std::size_t each = 0; each < loaded; ++each) check("fetch_many", each, own[each], begun, found[each]);
      return;
    }
    const std::uint64_t own = own_[n];
    const std::int64_t begun = now();
    if (choice % 4 == 0) {
      auto fetching = values_.async_fetch(k);
      check("async_fetch", n, own, begun, tenantry::sync_wait(std::move(fetching)));
    } else {
      check("fetch", n, own, begun, values_.fetch(k));
    }
  }

  void check(const char* how, std::size_t n, std::uint64_t own, std::int64_t begun,
             const tenantry::cached<std::string>& found) {
    ++world_->fetches;
    if (found.failure() != nullptr) {
      ++world_->failed;
      return;
    }
    if (found.source() == source::near) ++world_->near_hits;
    const std::uint64_t version = std::stoull(*found);
    const std::int64_t behind = world_->database[n].behind(version, begun);
    raise(world_->oldest, behind);
    const bool not_own = version < own;
    const bool too_old = behind > world_->bound;
    if (not_own) ++world_->not_own;
    if (too_old) ++world_->too_old;
    if ((!not_own && !too_old) || world_->described.exchange(true)) return;
    std::snprintf(world_->first_fault.data(), world_->first_fault.size(),
                  "%s of row %zu gave version %llu (%s), %lld us behind; the process itself had written %llu", how, n,
                  static_cast<unsigned long long>(version), std::string{to_string(found.source())}.c_str(),
                  static_cast<long long>(behind), static_cast<unsigned long long>(own));
  }

  std::string load(const key& k, tenantry::load_context& context) {
    ++world_->loads;
    std::size_t n = 0;
    while (!(table()[n].at == k)) ++n;
    for (const std::string& name : table()[n].tags) context.tag(name);
    const std::uint64_t version = world_->database[n].version;
    std::this_thread::sleep_for(1ms);  // what a query takes
    return std::to_string(version);
  }

  /// A commit, an invalidation, and only then the claim that it holds.
  void change(std::size_t n, random& from) {
    const row& changed = table()[n];
    const bool softly = below(from, 2) == 0;
    const bool of_tag = !changed.tags.empty() && below(from, 3) == 0;
    const bool of_tenant = !of_tag && below(from, 3) == 0;
    const bool by_raw = of_tenant && below(from, 3) == 0;  // a lost stamp; not an own write
    const std::string name = of_tag ? changed.tags[below(from, changed.tags.size())] : "";
    std::array<std::uint64_t, rows> committed{};
    for (std::size_t each = 0; each < loaded; ++each) {
      const row& other = table()[each];
      const bool reached = (each == n && !of_tag && !of_tenant) || (of_tenant && other.tenant == changed.tenant) ||
                           (of_tag && other.tenant == changed.tenant && std::ranges::count(other.tags, name) != 0);
      if (!reached) continue;
      std::atomic<std::uint64_t>& version = world_->database[each].version;
      committed[each] = each == put_row ? version.load() : ++version;  // that one has one owner
    }
    const tenantry::invalidator inv{below(from, 2) == 0 ? redis_ : second_, tenantry::catalog{row_of}};
    if (by_raw) {
      raw_.execute("DEL", "stamp:{" + std::string{changed.tenant.str()} + "}");
    } else if (of_tag) {
      const tenantry::tag what{changed.tenant, name};
      softly ? inv.expire(what) : inv.invalidate(what);
    } else if (of_tenant) {
      softly ? inv.expire(changed.tenant) : inv.invalidate(changed.tenant);
    } else {
      softly ? values_.expire(changed.at) : values_.invalidate(changed.at);
    }
    for (std::size_t each = 0; each < loaded; ++each) {
      if (committed[each] == 0) continue;
      world_->database[each].commit(committed[each]);
      if (!by_raw) raise(own_[each], committed[each]);
    }
    ++world_->changes;
  }
  void put() {
    const std::uint64_t current = ++world_->database[put_row].version;
    values_.put(table()[put_row].at, std::to_string(current));
    world_->database[put_row].commit(current);
    raise(own_[put_row], current);
    ++world_->changes;
  }
  /// Never lowers what is there.
  void change_raw() {
    const std::uint64_t current = ++world_->database[raw_row].version;
    raw_.execute("EVAL",
                 "if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then "
                 "redis.call('SET', KEYS[1], ARGV[1]) end return 1",
                 1, table()[raw_row].at, std::to_string(current));
    world_->database[raw_row].commit(current);
    ++world_->changes;
  }

  world* world_;
  tenantry::client_options options_;
  tenantry::client redis_;
  tenantry::client second_;
  tenantry::client raw_;
  std::array<std::atomic<std::uint64_t>, rows> own_{};  // written by this process, and announced
  tenantry::cache<std::string> values_;
  tenantry::cache<std::string> bare_;
  std::uint64_t seed_;
  bool owner_;
};

}  // namespace support::near_world
