#pragma once
// How much a tenant may do in a time, counted in Redis for all processes together.

#include <tenantry/client.hpp>
#include <tenantry/export.hpp>
#include <tenantry/rate_decision.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry {

/// How a limit is kept; docs/rate_limiting.md compares them.
enum class limit_kind : unsigned char {
  sliding_log,    ///< exact: never more than the limit in any window, and never less. 8 bytes per unit
  segmented_log,  ///< never more than the limit in any window; a unit comes back up to a sixtieth of it late. Up to 320
                  ///< bytes
  gcra,           ///< units come back one by one; up to `burst` at once, so up to limit and burst in a window. 16 bytes
};

struct rate_limit {
  /// Units in a window. 0: none.
  std::uint64_t limit = 100;
  /// From 1 ms to a year.
  std::chrono::milliseconds window = std::chrono::seconds{60};
  /// The same for all limits of a limiter. Nothing: `sliding_log` up to a limit of 1000, else `segmented_log`.
  std::optional<limit_kind> kind = std::nullopt;
  /// Units that `gcra` gives at once. Nothing: `limit`.
  std::optional<std::uint64_t> burst = std::nullopt;
};

/// What a limiter decides when Redis does not: it is slow, away, or refuses.
class TENANTRY_EXPORT on_failure {
 public:
  static const on_failure fail_open;    ///< allows
  static const on_failure fail_closed;  ///< denies, and says to try again in a second
  /// Counts in this process alone, up to limit / instances, but at least 1; in the child of a fork it denies. Errors:
  /// invalid_option for 0.
  static on_failure insurance(unsigned instances);

  [[nodiscard]] decision_source source() const noexcept { return source_; }
  [[nodiscard]] unsigned instances() const noexcept { return instances_; }

 private:
  constexpr explicit on_failure(decision_source source, unsigned instances = 0) noexcept
      : source_{source}, instances_{instances} {}

  decision_source source_;
  unsigned instances_;
};

/// Which part of a limiter's key decides about its slot in a cluster.
enum class limit_placement : unsigned char {
  tenant,  ///< `ratelimit:{acme}:/api/kpi#log`: all limits of a tenant in one slot
  path,    ///< `ratelimit:{acme:/api/kpi}#log`: a tenant with much traffic is spread
};

/// What a process remembers of denials, so that Redis is not asked while it would deny.
struct denial_cache_options {
  /// Tenants and paths; the least recently used are forgotten. About 700 bytes each.
  std::size_t names = 10'000;
  /// Redis is asked once in this time even so: another process may have given units back, or reset the limit.
  std::chrono::milliseconds max_age = std::chrono::seconds{1};
};

/// Units that a process takes ahead of their use, so that most decisions need no round trip.
///
/// They count from the end of `life` on, so no window ever has more than the limit. What is not used by then is lost:
/// it still counts. Each process may hold the share, so others may be denied though not all is used.
struct grant_options {
  double share = 0.05;                                             ///< of the limit, at most; at least 1 unit
  std::chrono::milliseconds life = std::chrono::milliseconds{50};  ///< up to a tenth of the window
};

struct limiter_options {
  /// The deadline of a decision; then `on_failure` decides.
  std::chrono::milliseconds timeout = std::chrono::milliseconds{50};
  limit_placement placement = limit_placement::tenant;
  std::optional<denial_cache_options> denial_cache = denial_cache_options{};
  std::optional<grant_options> grants = std::nullopt;
};

/// How often who decided, and what.
struct source_counters {
  std::uint64_t allowed = 0;
  std::uint64_t denied = 0;
};
struct limiter_counters {
  source_counters redis = {};
  source_counters denial_cache = {};
  source_counters grant = {};
  source_counters insurance = {};
  source_counters fail_open = {};
  source_counters fail_closed = {};
};

namespace detail {
class limiter_state;
}

/// Limits what tenants do, for each path by itself, in all processes together.
///
///     rate_limiter limiter{redis, on_failure::fail_open, {.limit = 100, .window = 60s}};
///     const decision d = limiter.acquire(acme, "/api/kpi");
///     if (!d) return too_many_requests(d.headers());   // 429 and Retry-After
///
/// Not promised: anything about the limit while Redis is away. An asynchronous replica that becomes the master may not
/// know the last admissions; a step forward of the server's clock frees a window early. Limiters of two kinds count
/// apart.
///
/// Promised, while Redis answers: sliding_log and segmented_log admit no more than the limit in any window, whatever
/// the clocks of the processes say. What is denied or only looked at changes nothing in Redis. What Redis may have
/// counted is never sent a second time.
///
/// Keys:     `ratelimit:{acme}:/api/kpi#log` (`#seg`, `#gcra`), strings that expire after a window.
/// Units:    a cost is a number of units, 1 for an ordinary request.
/// Errors:   none (`decision::failure` says why Redis did not decide).
/// Cost:     one round trip; none while a denial is remembered, or with units taken ahead. Requests of the same tenant,
///           path and cost that come while one is on the way share the next round trip.
/// Atomic:   yes, for all limits of a limiter together.
/// Threads:  safe on one object from many threads.
/// Lifetime: the client must outlive the limiter, and the limiter its tasks.
/// Source:   EVALSHA, TIME (Redis 7.0).
class TENANTRY_EXPORT rate_limiter {
 public:
  /// Errors: invalid_option, naming the field.
  rate_limiter(const client& redis, on_failure if_away, rate_limit limit, limiter_options how = {});
  /// All of them have to admit, or nothing is charged.
  rate_limiter(const client& redis, on_failure if_away, std::initializer_list<rate_limit> limits,
               limiter_options how = {});
  ~rate_limiter();
  rate_limiter(const rate_limiter&) = delete;
  rate_limiter& operator=(const rate_limiter&) = delete;

  /// `path` is the template of the route ("/api/readings/{unit}"), of any bytes; what follows a `?` is left out.
  decision acquire(const tenant_id& tenant, std::string_view path, std::uint64_t cost = 1);
  [[nodiscard]] task<decision> async_acquire(const tenant_id& tenant, std::string path, std::uint64_t cost = 1);

  /// Waits until it is admitted, up to `at_most`, and one decision more. Who waits in this process for the same tenant
  /// and path is served in the order of coming; those who only `acquire` do not queue. Returns the last denial as soon
  /// as it is known that the time is not enough, or that there is no use in waiting. A triggered token ends the wait: a
  /// denial with errc::cancelled as its failure. `close` of the client ends waits with a decision that is without
  /// Redis, those of threads when they would ask next.
  decision wait(const tenant_id& tenant, std::string_view path, std::chrono::milliseconds at_most,
                std::uint64_t cost = 1, const std::stop_token& stop = {});
  [[nodiscard]] task<decision> async_wait(const tenant_id& tenant, std::string path, std::chrono::milliseconds at_most,
                                          std::uint64_t cost = 1, std::stop_token stop = {});

  /// As many units as there are, up to `most`: `decision::granted`. Allowed if there is one.
  decision acquire_up_to(const tenant_id& tenant, std::string_view path, std::uint64_t most);
  [[nodiscard]] task<decision> async_acquire_up_to(const tenant_id& tenant, std::string path, std::uint64_t most);

  /// What `acquire` would decide now. Changes nothing.
  decision peek(const tenant_id& tenant, std::string_view path, std::uint64_t cost = 1);
  [[nodiscard]] task<decision> async_peek(const tenant_id& tenant, std::string path, std::uint64_t cost = 1);

  /// Gives back what was acquired last, for work that was not done; never more than is charged.
  /// `decision::granted` says how much. Where Redis does not answer, nothing is known to be given back.
  decision refund(const tenant_id& tenant, std::string_view path, std::uint64_t cost = 1);
  [[nodiscard]] task<decision> async_refund(const tenant_id& tenant, std::string path, std::uint64_t cost = 1);

  /// Forgets what was charged. Errors: as `caller::execute`. Source: UNLINK.
  void reset(const tenant_id& tenant, std::string_view path);
  [[nodiscard]] task<void> async_reset(const tenant_id& tenant, std::string path);

  /// Other limits from the next decision on, as many as before; the kind stays. What was charged still counts.
  /// Errors: invalid_option, naming the field, and connection_error (forked); nothing has changed then.
  void set_limits(std::vector<rate_limit> limits);

  [[nodiscard]] limit_kind kind() const noexcept;
  /// What was decided so far, peeks and refunds among it. The counters are read one after another.
  [[nodiscard]] limiter_counters counters() const noexcept;

 private:
  std::unique_ptr<detail::limiter_state> state_;
};

}  // namespace tenantry
