#pragma once
// How a cache keeps its values, and what it counts.

#include <chrono>
#include <cstdint>
#include <optional>

namespace tenantry {

/// What stands around a value's bytes in Redis.
enum class envelope : unsigned char {
  bare,  ///< nothing: another service's `SETEX key 300 json` is a hit here, and it can read what this cache stores
};

struct cache_options {
  /// How long a value is kept: from 1 ms to 100 years.
  std::chrono::milliseconds ttl = std::chrono::minutes{5};
  /// The fraction of `ttl` by which it is shortened at random, so that values stored together do not expire together:
  /// from 0 (never) to below 1. A value is never kept longer than `ttl`.
  double jitter = 0.1;
  tenantry::envelope envelope = tenantry::envelope::bare;
  /// The deadline of each read and write of this cache; the client's when empty. `fetch` may make three of them, none
  /// after one that failed.
  std::optional<std::chrono::milliseconds> redis_timeout = std::nullopt;
};

/// Counts since a cache was made.
struct cache_stats {
  std::uint64_t hits = 0;             ///< answered from Redis
  std::uint64_t misses = 0;           ///< reads that found nothing to use, with the next two
  std::uint64_t undecodable = 0;      ///< misses because the codec refused the bytes
  std::uint64_t wrong_type = 0;       ///< misses because the key holds something that is not a string
  std::uint64_t read_failures = 0;    ///< reads that Redis did not answer
  std::uint64_t loads = 0;            ///< calls of a loader
  std::uint64_t load_failures = 0;    ///< those that threw
  std::uint64_t waits = 0;            ///< fetches that shared another's load
  std::uint64_t stores = 0;           ///< values written to Redis
  std::uint64_t store_failures = 0;   ///< values that Redis did not take
  std::uint64_t encode_failures = 0;  ///< values that the codec could not write
  std::uint64_t fenced = 0;           ///< loaded values not stored, because invalidate or put came meanwhile
};

}  // namespace tenantry
