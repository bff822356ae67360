#pragma once
// What is done to all values of a tag, or to all keys of a tenant or a pattern.

#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/export.hpp>
#include <tenantry/key.hpp>
#include <tenantry/sweep.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/undelivered.hpp>

#include <cstddef>

namespace tenantry {

/// Invalidates and sweeps, for one tenant at a time.
///
///     invalidator inv{redis, catalog{portfolio_kpi, reading_monthly}};
///     inv.invalidate(acme);                        // nothing of acme's that is cached now is served again
///     inv.invalidate(tag{acme, "property:42"});    // nothing that its loader has tagged so
///     const sweep_report done = inv.sweep(acme);   // and its memory is back
///
/// Threads: safe; an invalidator does not change.
/// Lifetime: the client must outlive it and its tasks; a task may outlive the invalidator.
class TENANTRY_EXPORT invalidator {
 public:
  /// `undelivered` says what invalidations do while Redis is away.
  invalidator(const client& redis, catalog keys, undelivered undelivered = undelivered::fail);

  /// A fetch that begins after this returned, in any process, gives no value whose load began before, also not as a
  /// stale copy. Running loads store nothing that is served. The memory comes back when the values expire, or by a
  /// sweep. Call it after the change is committed.
  ///
  /// Keys:   `stamp:{acme}`, and for a tag `stamp:{acme}:tag:property%3A42`. Values of envelope::bare have no stamps
  ///   and are not reached.
  /// Errors: as `caller::execute`; then nothing is known to be invalidated. With undelivered::queue as
  ///   `cache::invalidate`.
  /// Cost:   one round trip, whatever the number of values.
  /// Source: SET; for a tag a script (EVALSHA).
  delivery invalidate(const tenant_id& tenant) const;
  delivery invalidate(const tag& what) const;
  [[nodiscard]] task<delivery> async_invalidate(const tenant_id& tenant) const;
  [[nodiscard]] task<delivery> async_invalidate(const tag& what) const;

  /// The same, but softly: values are loaded anew by the next fetch, and stay to be given when that fails, where a
  /// cache keeps stale copies (`cache_options::stale_for`).
  delivery expire(const tenant_id& tenant) const;
  delivery expire(const tag& what) const;
  [[nodiscard]] task<delivery> async_expire(const tenant_id& tenant) const;
  [[nodiscard]] task<delivery> async_expire(const tag& what) const;

  /// How many invalidations of this client's caches and invalidators are queued.
  [[nodiscard]] std::size_t queued() const;

  /// Deletes what one tenant has in Redis, to get its memory back: in one pass over the database, the keys of all the
  /// catalog's schemas with their companions, and nothing else. `reading_monthly.all(acme, "unit-7")` instead of a
  /// tenant narrows it down.
  ///
  /// Not promised: that a key which is written while the sweep runs is found. A sweep is no invalidation.
  ///
  /// Keys:   of the tenant, as `catalog::holds` says, and `key::companion` of those. Never stamps, logs or limits.
  /// Errors: as `exclusive_connection`, among them connection_lost when the connection ends: cursors of SCAN are worth
  ///   nothing to another server process, so the sweep does not go on with another connection. server_error when the
  ///   server refuses one of DBSIZE, SCAN, UNLINK, TIME and MEMORY USAGE. invalid_option when an option is out of
  ///   range, or when no schema of the catalog makes the pattern. What was deleted until then stays deleted,
  ///   `on_progress` has told how much, and the same sweep can be made again at any time.
  /// Cost:   one round trip for each page of 100 to 5000 keys, on an exclusive connection, so that no other call of the
  ///   client waits behind it. Pages are as large as the server manages in well under a millisecond. Under the client's
  ///   own deadline for each round trip.
  /// Atomic: no.
  /// Source: SCAN, UNLINK (Redis 4.0).
  sweep_report sweep(const tenant_id& tenant, const sweep_options& how = {}) const;
  sweep_report sweep(const key_pattern& pattern, const sweep_options& how = {}) const;

  /// The same for coroutines. All arguments are copied. With GCC 12 options need a name: see docs/async.md.
  [[nodiscard]] task<sweep_report> async_sweep(const tenant_id& tenant) const;
  [[nodiscard]] task<sweep_report> async_sweep(const tenant_id& tenant, const sweep_options& how) const;
  [[nodiscard]] task<sweep_report> async_sweep(const key_pattern& pattern) const;
  [[nodiscard]] task<sweep_report> async_sweep(const key_pattern& pattern, const sweep_options& how) const;

 private:
  const client* redis_;
  catalog keys_;
  undelivered undelivered_;
};

}  // namespace tenantry
