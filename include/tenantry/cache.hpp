#pragma once
// Cache-aside: values computed once, shared through Redis.

#include <tenantry/cache_options.hpp>
#include <tenantry/cached.hpp>
#include <tenantry/client.hpp>
#include <tenantry/codec.hpp>
#include <tenantry/detail/cache_core.hpp>
#include <tenantry/detail/loader.hpp>
#include <tenantry/error.hpp>
#include <tenantry/key.hpp>
#include <tenantry/load_context.hpp>
#include <tenantry/task.hpp>
#include <tenantry/undelivered.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tenantry {

struct invalidate_options {
  /// What is loaded or begun for so long after the invalidation is not stored, for databases whose replicas lag. A
  /// plain `put` is: its caller knows the value to be current. From 0 to 100 years.
  std::chrono::milliseconds hold{0};
};

/// Values of one type, read from Redis and computed by a loader when they are not there.
///
///     cache<kpi> kpis{redis, {.ttl = 5min, .stale_for = 1h},
///                     [&db](const key& k, load_context& load) { return compute_kpi(db, k.tenant()); }};
///     cached<kpi> hit = kpis.fetch(portfolio_kpi(acme));
///
/// Not promised: that a loader runs once only. It runs twice where a lease is lost (its holder was paused for longer
/// than `lease_ttl`), where `lease_wait` ends, inside of other loaders, and after an invalidation. While Redis is away
/// each process loads for itself, one caller at a time, and nothing below holds. An asynchronous replica may lose an
/// invalidation when it becomes the master.
///
/// Promised, across all processes and threads while Redis answers:
/// - a fetch that begins after an invalidation of its key, its tags or its tenant returned never gives a value whose
///   load began before; a load that was under way meanwhile stores nothing that is served;
/// - one caller loads a key at a time; the others wait for it, and get its value;
/// - after a failed load nobody calls the loader for `failure_throttle`; until then, and while others load for longer
///   than `lease_wait`, a stale copy is given where there is one;
/// - what is in Redis and cannot be used is a miss, and counted: another version, a defect, another key's value, bytes
///   that the codec refuses, another type;
/// - when Redis fails, `fetch` answers from the loader, with `stored() == false` and `failure()`.
///
/// With `cache_options::near` the first of these holds at once for what this process invalidates or writes through
/// caches and invalidators. What others do is seen when the server's message about it has come, and after `max_age` in
/// every case. How it is done: docs/cache/near.md.
///
/// Keys:     the key itself, a string: one line (docs/cache.md) and the codec's bytes, PX = ttl with jitter, and
///           stale_for; `{k}#lease`, `{k}#failed`, `{k}#hold` beside it; `stamp:{acme}` and `stamp:{acme}:tag:...`.
/// Errors:   whatever the loader throws, unchanged. load_failed; recursive_load when a loader fetches the key that it
///           is loading; connection_error (forked) in the child of a fork, where no loader runs.
/// Cost:     a hit one round trip, two when a tag of the tenant was invalidated since. A miss two, and one to store;
///           one more with tags, and one more where the near cache knew the tenant's stamp. A hit of the near cache
///           none.
/// Threads:  safe on one object from many threads. The cache's own loader is called on `cache_options::executor`, or
///           without one on the thread of the fetch.
/// Lifetime: the client must outlive the cache, and the cache its calls and tasks; values may outlive both. A loader
///           given to the constructor must be callable from many threads. The destructor waits for loads in the
///           background, as `close`.
template <class T, class Codec = default_codec<T>>
class cache {
  static_assert(
      codec_of<Codec, T>,
      "tenantry: this cache needs a codec for its values: include <tenantry/json_codec.hpp> and give T to_json "
      "and from_json, or name a codec as the second template argument");

 public:
  /// A cache whose loader is given to each fetch. Errors: invalid_option, naming the field; connection_error
  /// (forked) where the client is that of a parent; with `near` also std::system_error when the client's I/O thread
  /// cannot be started.
  explicit cache(const client& redis, cache_options options = {})
      : core_{redis, options, detail::codec_for<T, Codec>()} {}

  /// A cache with a loader of its own, called with (), (const key&) or (const key&, load_context&). It returns T, or
  /// std::optional<T> where there may be no value, or a task of either.
  template <class Loader>
  cache(const client& redis, cache_options options, Loader loader) : cache{redis, options} {
    static_assert(detail::loader_of<Loader, T>,
                  "tenantry: a loader is called with (), (const key&) or (const key&, "
                  "load_context&) and returns the value, an optional or a task of it");
    loader_ = std::make_shared<const detail::own_loader<T>>(std::move(loader));
    anywhere_ = {loader_, &loader_->async};
  }
  /// And one that loads many keys at once for `fetch_many`, called with (std::span<const key>) or
  /// (std::span<const key>, load_context&), which returns a vector of T or of std::optional<T> in the order of the
  /// keys.
  template <class Loader, class BatchLoader>
  cache(const client& redis, cache_options options, Loader loader, BatchLoader load_all)
      : cache{redis, options, std::move(loader)} {
    static_assert(detail::batch_loader_of<BatchLoader, T>,
                  "tenantry: a batch loader is called with (span of keys) or "
                  "(span of keys, load_context&) and returns a vector");
    load_all_ = detail::any_batch<T>(std::move(load_all));
  }

  /// The value of this key, from Redis or else from the cache's own loader.
  ///
  /// Errors: invalid_option when the cache has no loader.
  [[nodiscard]] cached<T> fetch(const key& k) {
    const detail::own_loader<T>& loader = own();
    if (detail::near_hit hit = core_.find_near(k); hit.found) return cached<T>{std::move(hit)};
    return cached<T>{core_.fetch(k, loader.blocking, anywhere_)};
  }
  /// The same for coroutines. A loader that returns a task is awaited.
  [[nodiscard]] task<cached<T>> async_fetch(key k) {
    own();
    return async_find(std::move(k), nullptr);
  }
  /// Inside of a loader that is a coroutine, its own or another cache's: never waits for the load of another process,
  /// and fetching a key that is being loaded around it is recursive_load. (The others are known by their thread.)
  [[nodiscard]] task<cached<T>> async_fetch(key k, const load_context& inside) {
    own();
    return async_find(std::move(k), detail::load_access::chain(inside));
  }
  /// All of these, in their order: one round trip when all are there, and otherwise as few as for one key. What is
  /// missing is loaded and stored first, then the loads of others are waited for.
  /// Errors: what the first load failed with; the others are stored all the same.
  [[nodiscard]] std::vector<cached<T>> fetch_many(std::span<const key> keys) {
    const detail::own_loader<T>& loader = own();
    detail::near_hits near{core_, keys};
    return typed(near, core_.fetch_many(near.missing(), loader.blocking, anywhere_, load_all_));
  }
  [[nodiscard]] task<std::vector<cached<T>>> async_fetch_many(std::vector<key> keys) {
    own();
    return async_find_many(std::move(keys));
  }

  /// The value of this key, from Redis or else from this loader, which runs inside this call only.
  template <class Loader>
  [[nodiscard]] cached<T> fetch(const key& k, Loader&& loader) {
    static_assert(
        detail::loader_of<std::remove_reference_t<Loader>, T>,
        "tenantry: a loader is called with (), (const key&) or (const key&, load_context&) and returns the value");
    if (detail::near_hit hit = core_.find_near(k); hit.found) return cached<T>{std::move(hit)};
    return cached<T>{core_.fetch(
        k,
        [&](const key& which, load_context& context) {
          return detail::value_of<T>(detail::call_loader(loader, which, context));
        },
        nullptr)};
  }

  /// Wrong use: a key is rendered by a schema.
  template <std::convertible_to<std::string_view> Text, class... Rest>
  cached<T> fetch(const Text&, Rest&&...) {
    static_assert(detail::never<Text>, "tenantry: fetch takes a key, rendered by a key_schema, not a string");
  }

  /// The fresh value in Redis, possibly `absent()`; nothing when there is none that can be used. Never calls a loader.
  /// Errors: as `caller::execute`. Cost: one round trip, or two as a hit.
  [[nodiscard]] std::optional<cached<T>> get(const key& k) {
    if (detail::near_hit hit = core_.find_near(k); hit.found) return cached<T>{std::move(hit)};
    return typed(core_.get(k));
  }
  [[nodiscard]] task<std::optional<cached<T>>> async_get(key k) { return async_look(std::move(k)); }

  /// Stores a value that the caller knows to be current: loads that are under way store nothing.
  /// Errors: as `caller::execute`; error (encode) when the codec refuses the value. Cost: two round trips.
  void put(const key& k, const T& value) { core_.put(k, shared(value)); }
  /// Stores that there is none. Errors: also invalid_option without `negative_ttl`.
  void put(const key& k, std::nullopt_t) { core_.put(k, nullptr); }
  [[nodiscard]] task<void> async_put(key k, T value) { return core_.async_put(std::move(k), shared(std::move(value))); }
  [[nodiscard]] task<void> async_put(key k, std::nullopt_t) { return core_.async_put(std::move(k), nullptr); }
  /// For a value that is read from the database after this: `put` with the ticket stores it only if nothing was
  /// invalidated, put or begun meanwhile, within `lease_ttl`. Cost: two round trips.
  [[nodiscard]] load_ticket begin(const key& k) { return core_.begin(k); }
  [[nodiscard]] task<load_ticket> async_begin(key k) { return core_.async_begin(std::move(k)); }
  /// True when it was stored. Cost: one round trip.
  bool put(const key& k, const T& value, const load_ticket& ticket) { return core_.put(k, shared(value), ticket); }
  [[nodiscard]] task<bool> async_put(key k, T value, load_ticket ticket) {
    return core_.async_put(std::move(k), shared(std::move(value)), std::move(ticket));
  }

  /// Removes the value of this key and the right of running loads to store theirs. After the change is committed, never
  /// before: a load in between would read the old data.
  /// Errors: as `caller::execute`; then nothing is known to be removed. With undelivered::queue it returns
  /// delivery::queued instead while Redis is away, and throws only what would not succeed later either, or when 10,000
  /// are queued. Cost: one round trip.
  delivery invalidate(const key& k, invalidate_options how = {}) { return core_.invalidate(k, how.hold); }
  [[nodiscard]] task<delivery> async_invalidate(const key& k, invalidate_options how = {}) {
    return core_.async_invalidate(k, how.hold);
  }
  /// The next fetch loads anew; until that succeeds the value is kept as a stale copy. Running loads store nothing.
  /// Errors and cost: as `invalidate`.
  delivery expire(const key& k) { return core_.expire(k); }
  [[nodiscard]] task<delivery> async_expire(const key& k) { return core_.async_expire(k); }

  /// Ends loading in the background: loads that run are told by `load_context::stop`, and waited for; those that have
  /// not begun fail with timeout_error (cancelled); later fetches load in their own call. False when some have not
  /// ended in this time; the destructor waits for them.
  bool close(std::chrono::milliseconds patience) { return core_.close(patience); }

  /// What happened so far. Threads: safe; the counters are read one after another.
  [[nodiscard]] cache_stats stats() const noexcept { return core_.stats(); }
  /// The same of the near cache.
  [[nodiscard]] tenantry::near_stats near_stats() const { return core_.near_stats(); }

 private:
  static detail::any_value shared(T value) { return std::make_shared<const T>(std::move(value)); }
  /// In the order of the keys.
  static std::vector<cached<T>> typed(detail::near_hits& near, std::vector<detail::fetched> others) {
    std::vector<cached<T>> values;
    values.reserve(near.size());
    auto other = others.begin();
    for (std::size_t i = 0; i < near.size(); ++i) {
      if (near[i].found) {
        values.emplace_back(std::move(near[i]));
      } else {
        values.emplace_back(std::move(*other++));
      }
    }
    return values;
  }
  static std::optional<cached<T>> typed(detail::looked_up found) {
    if (!found.found) return std::nullopt;
    return cached<T>{std::move(found.what)};
  }
  task<cached<T>> async_find(key k, std::shared_ptr<const detail::load_chain> inside) {
    if (detail::near_hit hit = core_.find_near(k, inside.get()); hit.found) co_return cached<T>{std::move(hit)};
    auto fetching = core_.async_fetch(std::move(k), anywhere_, std::move(inside));
    detail::fetched what = co_await std::move(fetching);
    co_return cached<T>{std::move(what)};
  }
  task<std::vector<cached<T>>> async_find_many(std::vector<key> keys) {
    detail::near_hits near{core_, keys};
    auto fetching = core_.async_fetch_many(near.missing(), anywhere_, load_all_);
    std::vector<detail::fetched> others = co_await std::move(fetching);
    co_return typed(near, std::move(others));
  }
  task<std::optional<cached<T>>> async_look(key k) {
    if (detail::near_hit hit = core_.find_near(k); hit.found) co_return cached<T>{std::move(hit)};
    auto looking = core_.async_get(std::move(k));
    detail::looked_up found = co_await std::move(looking);
    co_return typed(std::move(found));
  }
  const detail::own_loader<T>& own() const {
    if (!loader_) throw invalid_option{"cache::fetch without a loader needs one in the constructor"};
    return *loader_;
  }

  std::shared_ptr<const detail::own_loader<T>> loader_;
  std::shared_ptr<const detail::any_async_loader> anywhere_;  // the same, where it may run after a call
  detail::any_batch_loader load_all_;
  detail::cache_core core_;  // the last: its end waits for loads in the background
};

}  // namespace tenantry
