#pragma once
// What becomes of invalidations while Redis is away.

namespace tenantry {

/// What an invalidation does that Redis does not take now: it cannot be reached, does not answer in time, takes no
/// writes, or the circuit breaker is open.
enum class undelivered : unsigned char {
  fail,   ///< throws
  queue,  ///< is queued, and sent until it is delivered. Meanwhile what it concerns is a miss for all caches of the
          ///< same client: the key, or for a tag the whole tenant. Lost with the process, and when the client is closed
};

/// What became of an invalidation.
enum class delivery : unsigned char {
  done,    ///< it is in Redis
  queued,  ///< it will be, and what it concerns is a miss here until then
};

}  // namespace tenantry
