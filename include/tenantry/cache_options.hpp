#pragma once
// How a cache keeps its values, and what it counts.

#include <tenantry/executor.hpp>
#include <tenantry/metrics.hpp>
#include <tenantry/undelivered.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace tenantry {

/// What stands around a value's bytes in Redis.
enum class envelope : unsigned char {
  header,  ///< one readable line first: stamps, times, tags. Nothing that was invalidated is served
  bare,    ///< nothing: another service's `SETEX key 300 json` is a hit here, and it can read what this cache stores.
           ///< No tags, no stale copies, no absent values, and `invalidator` does not reach them
};

/// A near cache: values in the memory of the process, decoded, which the server keeps current (docs/cache/near.md).
struct near_options {
  /// How much memory it takes: keys, its own, and of each value `sizeof(T)` and its size in Redis, or what
  /// `codec.memory(value)` says where the codec has that. What has left it and is not destroyed yet, an eighth of it at
  /// most, and what callers hold comes on top. A value of more than a quarter is not kept. From 64 KiB to 1 TiB.
  std::size_t max_bytes = std::size_t{64} << 20U;
  /// How long a value is given without asking Redis, whatever happens: nothing that is older is given where messages of
  /// the server get lost. From 1 ms to 1 day.
  std::chrono::milliseconds max_age = std::chrono::seconds{10};
};

struct cache_options {
  /// How long a value is fresh: from 1 ms to 100 years.
  std::chrono::milliseconds ttl = std::chrono::minutes{5};
  /// The fraction of `ttl` by which it is shortened at random, so that values stored together do not expire together:
  /// from 0 (never) to below 1. A value is never fresh for longer than `ttl`.
  double jitter = 0.1;
  /// How long beyond its ttl a value is kept, to be served when it cannot be loaded anew. 0: not at all.
  std::chrono::milliseconds stale_for{0};
  /// The fraction of its ttl after which a value that is asked for is loaded anew by one of all processes, while all
  /// others go on with it: from 0 (never) to below 1. In the background with an `executor`, else in the call that
  /// asked.
  double refresh_ahead = 0;
  /// The same, but at random (XFetch): the likelier the nearer the end is, as measured by how long the value took to
  /// load. From 0 (never); 1 is usual, more is earlier. May be used with `refresh_ahead` or without.
  double refresh_beta = 0;
  /// How long it is remembered that a loader had nothing to give. Nothing: not at all.
  std::optional<std::chrono::milliseconds> negative_ttl = std::nullopt;

  /// The right to load a key, which one caller of all processes has at a time. It is renewed during the load; when its
  /// holder dies it is free after so long.
  std::chrono::milliseconds lease_ttl = std::chrono::seconds{5};
  /// How long to wait for the load of another caller; then a stale copy, or a load of one's own that is not stored.
  std::chrono::milliseconds lease_wait = std::chrono::seconds{5};
  /// How long a lease is renewed.
  std::chrono::milliseconds load_timeout = std::chrono::seconds{60};
  /// Where the cache's own loader runs, so that callers can leave it behind; without one it runs on the thread of the
  /// fetch, and for `async_fetch` on the executor that resumes it. Must have threads that do not wait in fetches.
  tenantry::executor executor = {};
  /// How long a caller waits for a load, its own or another's, when there is a stale copy to be given instead. The load
  /// goes on, and stores what it gives. Nothing: as `lease_wait` says for loads of others, and to the end for its own.
  /// Needs `executor` and `stale_for`.
  std::optional<std::chrono::milliseconds> soft_timeout = std::nullopt;
  /// How long it waits at all; then it gets a stale copy or, if there is none, timeout_error (load_timeout). The load
  /// goes on. Needs `executor`.
  std::optional<std::chrono::milliseconds> hard_timeout = std::nullopt;
  /// After a failed load no process tries again for so long; callers get a stale copy, or load_failed.
  std::chrono::milliseconds failure_throttle = std::chrono::seconds{1};

  tenantry::envelope envelope = tenantry::envelope::header;
  /// Of the application's format of these values: others are misses, so that two versions of a program can share keys.
  std::uint32_t version = 0;
  /// The deadline of each round trip of this cache; the client's when empty.
  std::optional<std::chrono::milliseconds> redis_timeout = std::nullopt;
  /// What `invalidate` and `expire` do while Redis is away.
  tenantry::undelivered undelivered = tenantry::undelivered::fail;
  /// Keeps values in the memory of the process as well. Nothing: not at all.
  std::optional<near_options> near = std::nullopt;
};

/// Counts since a cache was made.
struct cache_stats {
  std::uint64_t hits = 0;             ///< fetches and gets answered from Redis with a fresh value
  std::uint64_t absent = 0;           ///< of them, those that knew that there is none
  std::uint64_t misses = 0;           ///< those that found nothing to use
  std::uint64_t stale = 0;            ///< answered with a stale copy
  std::uint64_t undecodable = 0;      ///< values that were defect, of another version, or refused by the codec
  std::uint64_t wrong_type = 0;       ///< keys that hold something that is not a string
  std::uint64_t read_failures = 0;    ///< round trips before a load that Redis did not answer
  std::uint64_t loads = 0;            ///< values that a loader was asked for
  std::uint64_t load_failures = 0;    ///< those for which it threw
  std::uint64_t throttled = 0;        ///< fetches without a value, because a load had failed just before
  std::uint64_t timeouts = 0;         ///< fetches without a value, because a load took longer than `hard_timeout`
  std::uint64_t waits = 0;            ///< fetches that waited for another's load
  std::uint64_t refreshes = 0;        ///< loads of values that were still fresh
  std::uint64_t stores = 0;           ///< values written to Redis
  std::uint64_t store_failures = 0;   ///< values that Redis did not take
  std::uint64_t encode_failures = 0;  ///< values that the codec could not write
  std::uint64_t fenced = 0;           ///< loaded values not stored, because they were invalidated meanwhile
};

/// What a near cache holds and counts. All zero without one.
struct near_stats {
  bool tracking = false;        ///< the server tells of changes now, so that values are kept
  std::uint64_t values = 0;     ///< now, those that are never given again among them
  std::uint64_t bytes = 0;      ///< now, those among them that wait for their last reader
  std::uint64_t hits = 0;       ///< fetches and gets answered from memory; cache_stats does not count them
  std::uint64_t absent = 0;     ///< of them, those that knew that there is none
  std::uint64_t stores = 0;     ///< values taken from Redis
  std::uint64_t refused = 0;    ///< not taken, because they had changed by then, or the connection had
  std::uint64_t evictions = 0;  ///< to make room

  // Of the client: the same for all of its caches.
  std::uint64_t invalidations = 0;      ///< keys that the server said have changed
  std::uint64_t flushes_push_lost = 0;  ///< everything dropped: the connection for messages ended, or was silent
  std::uint64_t flushes_lane_lost = 0;  ///< a connection ended on which values had been read
  std::uint64_t flushes_by_server = 0;  ///< FLUSHALL, FLUSHDB
  histogram push_delay = {};            ///< from a write of this process to a value in its memory to the message
                                        ///< about it, where that came within 3 s
};

}  // namespace tenantry
