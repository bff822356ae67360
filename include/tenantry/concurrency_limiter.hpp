#pragma once
// How much a tenant may do at once, counted in Redis for all processes together.

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/export.hpp>
#include <tenantry/rate_decision.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace tenantry {

namespace detail {
class permit_limiter;
class permit_place;
}  // namespace detail

struct concurrency_options {
  /// Permits at once of a tenant and name, up to a million. 0: none.
  std::uint64_t limit = 20;
  /// How long a permit is kept of a process that died. While it lives it is renewed at a third of this. From 100 ms to
  /// a day.
  std::chrono::milliseconds lease = std::chrono::seconds{10};
  /// The deadline of one call; then `on_failure` decides.
  std::chrono::milliseconds timeout = std::chrono::milliseconds{50};
};

/// A place among those that may go on; its destructor gives it back.
///
/// Not promised: that it is kept. Where it cannot be renewed, its lease runs out, and another one may get its place:
/// `lost`.
///
/// One of `acquire` is given back with a call that blocks up to the timeout; where that fails, and with one of
/// `async_acquire`, the client's I/O thread does it soon, and the lease at the latest.
///
/// Threads: one at a time; `lost` from any.
/// Lifetime: it may outlive its limiter. One that outlives its client is given back by its lease alone, but it must not
///   end while the client is being destroyed. In the child of a fork it gives back nothing: it is the parent's.
class TENANTRY_EXPORT permit {
 public:
  /// May not go on, and holds nothing.
  permit() noexcept;
  /// `from` holds nothing afterwards.
  permit(permit&& from) noexcept;
  permit& operator=(permit&& from) noexcept;
  ~permit();

  /// Whether its holder may go on. False after it was given back.
  [[nodiscard]] explicit operator bool() const noexcept { return granted_; }

  /// True when it is not known to be kept: its lease ran out, or Redis does not know it any more. Another one may have
  /// its place. False again where a late renewal found that nobody has.
  [[nodiscard]] bool lost() const noexcept;

  /// How many were in use when this was decided, itself included; 0 where nobody counted (fail_open, fail_closed).
  [[nodiscard]] std::uint64_t in_use() const noexcept { return in_use_; }
  /// The limit that was applied: with insurance the share of this process.
  [[nodiscard]] std::uint64_t limit() const noexcept { return limit_; }
  [[nodiscard]] decision_source source() const noexcept { return source_; }
  /// Why Redis did not decide; nullptr when it did.
  [[nodiscard]] const std::shared_ptr<const error>& failure() const noexcept { return failure_; }

  /// What the destructor does, earlier. Idempotent.
  void release() noexcept;
  /// Ends when Redis has its place back, or the I/O thread has taken over because that failed. Nothing is thrown for
  /// Redis. The permit is given back also where the task never runs, as its destructor would.
  /// Lifetime: the client must outlive the task; the permit need not.
  [[nodiscard]] task<void> async_release();

 private:
  friend class detail::permit_limiter;

  std::unique_ptr<detail::permit_place> place_;
  bool granted_ = false;
  decision_source source_ = decision_source::redis;
  std::uint64_t in_use_ = 0;
  std::uint64_t limit_ = 0;
  std::shared_ptr<const error> failure_;
};

/// Limits how many of a tenant are at work at the same time, for each name by itself, in all processes together.
///
///     concurrency_limiter exports{redis, on_failure::fail_closed, {.limit = 2}};
///     if (const permit p = exports.acquire(acme, "exports")) write_export(acme);   // one of two at once
///
/// Not promised: anything about the limit while Redis is away, and when it is back, until what was allowed meanwhile
/// has ended. Fairness: nobody waits in a line. A holder whose lease ran out is not stopped: see `permit::lost`. An
/// asynchronous replica that becomes the master may not know the last permits; a step forward of the server's clock
/// frees them early.
///
/// Promised, while Redis answers: no more permits than the limit are held at once, but for those that are lost; what a
/// process that died held is free after its lease, also when the server's clock steps back. What is denied or only
/// looked at changes nothing in Redis. An `acquire` that Redis may have granted is never sent a second time, and given
/// back when its answer was not seen.
///
/// Keys:     `permits:{acme}:exports`, a sorted set that expires with its last lease.
/// Units:    one permit is one place.
/// Errors:   none for Redis (`permit::failure`). invalid_name for an empty name.
/// Cost:     one round trip to acquire, one to release. Permits that live longer than a third of their lease are
/// renewed
///           together, in one write; the first permit starts the client's I/O thread, and where that cannot be started,
///           they are not renewed.
/// Atomic:   yes.
/// Threads:  safe on one object from many threads.
/// Lifetime: the client must outlive the limiter and its tasks. Permits and tasks may outlive the limiter.
/// Source:   EVALSHA, TIME, ZADD (Redis 7.0).
class TENANTRY_EXPORT concurrency_limiter {
 public:
  /// With `on_failure::insurance` all permits count that this client's limiters have given in this process. Errors:
  /// invalid_option, naming the field; connection_error (forked) where the client is that of a parent.
  concurrency_limiter(const client& redis, on_failure if_away, concurrency_options how = {});
  ~concurrency_limiter();
  concurrency_limiter(const concurrency_limiter&) = delete;
  concurrency_limiter& operator=(const concurrency_limiter&) = delete;

  /// `name` is what is limited ("exports"), of any bytes.
  [[nodiscard]] permit acquire(const tenant_id& tenant, std::string_view name);
  [[nodiscard]] task<permit> async_acquire(const tenant_id& tenant, std::string name);

  /// How many are held now. Changes nothing. Errors: as `caller::execute`.
  [[nodiscard]] std::uint64_t in_use(const tenant_id& tenant, std::string_view name);
  [[nodiscard]] task<std::uint64_t> async_in_use(const tenant_id& tenant, std::string name);

 private:
  std::shared_ptr<detail::permit_limiter> state_;
};

}  // namespace tenantry
