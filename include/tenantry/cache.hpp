#pragma once
// Cache-aside: values computed once, shared through Redis.

#include <tenantry/cache_options.hpp>
#include <tenantry/client.hpp>
#include <tenantry/codec.hpp>
#include <tenantry/detail/cache_store.hpp>
#include <tenantry/detail/fetch_machine.hpp>
#include <tenantry/detail/load_scope.hpp>
#include <tenantry/detail/single_flight.hpp>
#include <tenantry/error.hpp>
#include <tenantry/key.hpp>
#include <tenantry/load_context.hpp>

#include <concepts>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace tenantry {

/// Where a fetched value came from.
enum class source : unsigned char {
  computed,  ///< the loader ran, in this call or in one that this call waited for
  redis,     ///< it was in Redis
};

/// The enumerator's name, for logs: "redis".
constexpr std::string_view to_string(source from) noexcept { return from == source::redis ? "redis" : "computed"; }

/// A fetched value. Cheap to copy; the value is shared and immutable.
template <class T>
class cached {
 public:
  cached(std::shared_ptr<const T> value, tenantry::source from, bool in_redis, std::shared_ptr<const error> failure)
      : value_{std::move(value)}, failure_{std::move(failure)}, source_{from}, stored_{in_redis} {}

  [[nodiscard]] const T& operator*() const noexcept { return *value_; }
  [[nodiscard]] const T* operator->() const noexcept { return value_.get(); }

  [[nodiscard]] tenantry::source source() const noexcept { return source_; }
  /// True when the value is in Redis, as far as this call saw.
  [[nodiscard]] bool stored() const noexcept { return stored_; }
  /// Why Redis could not be asked, or could not take the value; nullptr when nothing failed.
  [[nodiscard]] const error* failure() const noexcept { return failure_.get(); }

 private:
  std::shared_ptr<const T> value_;
  std::shared_ptr<const error> failure_;
  tenantry::source source_;
  bool stored_;
};

namespace detail {
template <class F, class T>
concept loader_of = std::is_invocable_r_v<T, F&> || std::is_invocable_r_v<T, F&, const key&> ||
                    std::is_invocable_r_v<T, F&, const key&, load_context&>;
}

/// Values of one type, read from Redis and computed by a loader when they are not there.
///
///     cache<kpi> kpis{redis, {.ttl = 5min, .jitter = 0.1},
///                     [&db](const key& k, load_context&) { return compute_kpi(db, k.tenant()); }};
///     cached<kpi> hit = kpis.fetch(portfolio_kpi(acme));
///
/// Not promised: that a loader runs once in all processes or cache objects together (each may run one), an end of the
/// wait for a loader that never returns, and that a loader which
/// began before `invalidate` in another process stores nothing after it. Not promised while Redis is away: anything but
/// the loader's answer.
///
/// Promised:
/// - one loader per key runs at a time in this cache object, unless the key was invalidated meanwhile or waiting would
///   go in a circle; callers who come meanwhile share its result, or the very exception it threw;
/// - a fetch that begins after `invalidate` or `put` returned does not join a load that began before, in this object;
/// - what is in Redis and cannot be decoded, or has another type, is a miss, and counted;
/// - when Redis fails, `fetch` answers from the loader, with `stored() == false` and `failure()`.
///
/// Keys:     the key itself, a string: with envelope::bare just the codec's bytes (plain JSON); PX = ttl with jitter.
/// Errors:   whatever the loader throws, unchanged. recursive_load when a loader fetches the key that it is loading.
/// Cost:     hit: one round trip (GET). Miss: three (GET, GET again once no other call loads, SET).
/// Threads:  safe on one object from many threads. The loader is called on the thread of the fetch.
/// Lifetime: the client must outlive the cache. A loader given to the constructor must be callable from many threads.
template <class T, class Codec = default_codec<T>>
class cache {
  static_assert(
      codec_of<Codec, T>,
      "tenantry: this cache needs a codec for its values: include <tenantry/json_codec.hpp> and give T to_json "
      "and from_json, or name a codec as the second template argument");

 public:
  /// A cache whose loader is given to each fetch. Errors: invalid_option, naming the field.
  explicit cache(const client& redis, cache_options options = {}) : store_{redis, options} {}

  /// A cache with a loader of its own.
  template <class Loader>
  cache(const client& redis, cache_options options, Loader loader) : store_{redis, options} {
    static_assert(
        detail::loader_of<Loader, T>,
        "tenantry: a loader is called with (), (const key&) or (const key&, load_context&) and returns the value");
    loader_ = [own = std::make_shared<Loader>(std::move(loader))](const key& k, load_context& context) -> T {
      return call(*own, k, context);
    };
  }

  /// The value of this key, from Redis or else from the cache's own loader.
  ///
  /// Errors: invalid_option when the cache has no loader.
  [[nodiscard]] cached<T> fetch(const key& k) {
    if (!loader_) throw invalid_option{"cache::fetch without a loader needs one in the constructor"};
    return fetch_with(k, loader_);
  }

  /// The value of this key, from Redis or else from this loader, which runs inside this call only.
  template <class Loader>
  [[nodiscard]] cached<T> fetch(const key& k, Loader&& loader) {
    static_assert(
        detail::loader_of<std::remove_reference_t<Loader>, T>,
        "tenantry: a loader is called with (), (const key&) or (const key&, load_context&) and returns the value");
    return fetch_with(k, [&](const key& which, load_context& context) -> T { return call(loader, which, context); });
  }

  /// Wrong use: a key is rendered by a schema.
  template <std::convertible_to<std::string_view> Text, class... Rest>
  cached<T> fetch(const Text&, Rest&&...) {
    static_assert(detail::never<Text>, "tenantry: fetch takes a key, rendered by a key_schema, not a string");
  }

  /// The value in Redis, or nothing when there is none that can be used. Never calls a loader.
  /// Errors: as `caller::execute`. Cost: one round trip.
  [[nodiscard]] std::optional<cached<T>> get(const key& k) {
    auto value = decoded(store_.read(k));
    store_.count(value ? detail::cache_event::hit : detail::cache_event::miss);
    if (!value) return std::nullopt;
    return cached<T>{std::move(value), source::redis, true, nullptr};
  }

  /// Stores a value for the cache's ttl. Errors: as `caller::execute`; error (encode) when the codec refuses the value.
  /// Cost: one round trip.
  void put(const key& k, const T& value) {
    std::shared_ptr<const error> refusal;
    const std::optional<std::string> bytes = encoded(k, value, refusal);
    if (!bytes) throw error{*refusal};
    defeat_loads(k);
    store_.write(k, *bytes, store_.options().ttl);
    flights_.detach(k.str());
  }

  /// Removes the value of this key. When it returned, Redis has done so.
  /// Errors: as `caller::execute`; then nothing is known to be removed. Cost: one round trip (UNLINK).
  void invalidate(const key& k) {
    defeat_loads(k);
    store_.remove(k);
    flights_.detach(k.str());
  }

  /// What happened so far. Threads: safe; the counters are read one after another.
  [[nodiscard]] cache_stats stats() const noexcept { return store_.stats(); }

 private:
  using flights = detail::single_flight<cached<T>>;

  template <class F>
  static T call(F& loader, const key& k, load_context& context) {
    if constexpr (std::is_invocable_r_v<T, F&, const key&, load_context&>) {
      return std::invoke(loader, k, context);
    } else if constexpr (std::is_invocable_r_v<T, F&, const key&>) {
      return std::invoke(loader, k);
    } else {
      return std::invoke(loader);
    }
  }

  /// The value that was read, or nullptr where it is a miss.
  std::shared_ptr<const T> decoded(const std::optional<std::string>& bytes) {
    if (!bytes) return nullptr;
    try {
      return std::make_shared<const T>(codec_.decode(*bytes));
    } catch (...) {  // whatever a codec throws, the value cannot be used
      store_.count(detail::cache_event::undecodable);
      return nullptr;
    }
  }

  /// The bytes of a value, or nothing and why not.
  std::optional<std::string> encoded(const key& k, const T& value, std::shared_ptr<const error>& refusal) {
    std::string why = "the codec refused the value";
    try {
      return codec_.encode(value);
    } catch (const std::exception& fault) {
      why = fault.what();
    } catch (...) {  // whatever a codec throws, the value has no bytes
      why += " with an exception of its own kind";
    }
    store_.count(detail::cache_event::encode_failure);
    refusal = std::make_shared<const error>(errc::encode, execution::not_sent, k.str() + ": " + why);
    return std::nullopt;
  }

  /// The load of this key that is under way stores nothing, or has stored already when this returns.
  void defeat_loads(const key& k) {
    if (const auto storing = flights_.detach(k.str())) storing->wait_until_landed();
  }

  template <class Loader>
  cached<T> fetch_with(const key& k, Loader&& loader);

  detail::cache_store store_;
  [[no_unique_address]] Codec codec_{};
  std::function<T(const key&, load_context&)> loader_;
  flights flights_;
};

}  // namespace tenantry

#include <tenantry/detail/cache_fetch.hpp>
