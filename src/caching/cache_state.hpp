#pragma once
// What all fetches of a cache share: its options, its codec, its counters, and the ways to Redis.

#include "caching/background_loads.hpp"
#include "caching/face.hpp"
#include "caching/fetch_machine.hpp"
#include "caching/flights.hpp"
#include "caching/invalidation_queue.hpp"
#include "caching/lease_keeper.hpp"
#include "caching/near_cache.hpp"
#include "caching/request.hpp"
#include "caching/wakeups.hpp"
#include "engine/seam.hpp"

#include <tenantry/cache_options.hpp>
#include <tenantry/client.hpp>
#include <tenantry/detail/cache_core.hpp>
#include <tenantry/observer.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

enum class cache_event : unsigned char {
  hit,
  absent,
  miss,
  stale,
  undecodable,
  wrong_type,
  read_failure,
  load,
  load_failure,
  throttled,
  timeout,
  wait,
  refresh,
  store,
  store_failure,
  encode_failure,
  fenced,
  count
};

/// What Redis said.
struct answers {
  std::vector<reply> replies;
  bool tracked = false;  // all reads that were to be
};

/// Threads: all members from any thread.
class cache_state {
 public:
  /// Errors: invalid_option, naming the field.
  cache_state(const client& redis, const cache_options& options, value_codec codec);
  /// Waits for the loads in the background.
  ~cache_state() { background_.close(std::nullopt); }
  cache_state(const cache_state&) = delete;
  cache_state& operator=(const cache_state&) = delete;

  /// The calls of one tenant, which has to outlive them.
  [[nodiscard]] caller through(const tenant_id& tenant) const;
  /// Calls of several tenants.
  [[nodiscard]] caller through_any() const;
  /// For fetches, which have a loader to fall back on. Errors: unreachable while the circuit breaker is open.
  void check_breaker() const;
  /// Sends the requests in one write, again as a whole where the server does not know a script. What fetches wanted to
  /// be noted goes along. Errors: as caller::execute_all.
  answers send(const caller& by, std::span<const request> requests);
  task<answers> async_send(const caller& by, std::span<const request> requests);
  /// To be sent along with something else, or lost.
  void note(request what);

  /// The value of these bytes, or nothing where the codec refuses them (counted).
  any_value decode(std::string_view bytes);
  /// Errors: error (encode), naming the key (counted).
  std::string encode(const key& k, const any_value& value);
  /// What is to be stored of a value, or of its absence, with jitter.
  [[nodiscard]] load_outcome outcome_of(const any_value& value, std::optional<std::chrono::milliseconds> ttl) const;

  void count(cache_event what) noexcept {
    counters_[static_cast<std::size_t>(what)].fetch_add(1, std::memory_order_relaxed);
  }
  /// It did not happen after all.
  void uncount(cache_event what) noexcept {
    counters_[static_cast<std::size_t>(what)].fetch_sub(1, std::memory_order_relaxed);
  }
  [[nodiscard]] cache_stats stats() const noexcept;
  /// Or nothing.
  [[nodiscard]] near_cache* near() const noexcept { return near_.get(); }
  /// For the client's observer.
  void tell(std::string_view name, const tenant_id& tenant) const noexcept;
  void tell(std::string_view name, const tenant_id& tenant, event_field also) const noexcept;
  void tell_load_failed(const tenant_id& tenant, bool in_background, const std::exception_ptr& what) const;
  [[nodiscard]] const cache_options& options() const noexcept { return options_; }
  [[nodiscard]] const fetch_rules& rules() const noexcept { return rules_; }
  [[nodiscard]] const client& redis() const noexcept { return redis_; }
  [[nodiscard]] flights& under_way() noexcept { return flights_; }
  [[nodiscard]] background_loads& background() noexcept { return background_; }
  [[nodiscard]] invalidation_queue& undelivered() noexcept { return *undelivered_; }
  [[nodiscard]] const std::shared_ptr<wakeups>& waking() const noexcept { return wakeups_; }
  [[nodiscard]] const std::shared_ptr<lease_keeper>& keeper() const noexcept { return keeper_; }

 private:
  /// Requests on their way, among commands that callers know nothing of.
  struct parcel {
    enum class part : unsigned char { asked, tracking, caching, note };
    std::vector<command> commands;
    std::vector<part> parts;
    bool tracked = false;
    std::uint64_t epoch = 0;    // of the tracking
    std::int64_t redirect = 0;  // the CLIENT ID that is to be told
  };
  parcel pack(face lane, std::span<const request> requests, bool whole);
  /// Takes the replies that were asked for. False where the server does not know a script.
  bool unpack(face lane, const parcel& sent, std::vector<reply> replies, answers& to);

  const client& redis_;
  const cache_options options_;
  const fetch_rules rules_;
  const value_codec codec_;
  const std::shared_ptr<wakeups> wakeups_;
  const std::shared_ptr<lease_keeper> keeper_;
  const std::shared_ptr<invalidation_queue> undelivered_;
  const std::unique_ptr<near_cache> near_;
  flights flights_;
  background_loads background_;

  std::mutex mutex_;
  std::vector<request> notes_;
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(cache_event::count)> counters_{};
};

/// One algorithm for threads and coroutines, where speed is not all: a task that need not suspend.
inline task<answers> send(cache_state& on, face how, const caller& by, std::vector<request> requests) {
  if (how == face::blocking) co_return on.send(by, requests);
  auto sending = on.async_send(by, requests);
  answers all = co_await std::move(sending);
  co_return all;
}

}  // namespace tenantry::detail
