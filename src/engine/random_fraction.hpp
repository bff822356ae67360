#pragma once
// Chance, for jitter.

#include <random>

namespace tenantry::detail {

/// In [0, 1). Every thread has a generator of its own.
inline double random_fraction() {
  thread_local std::minstd_rand generator{std::random_device{}()};
  return std::generate_canonical<double, 32>(generator);
}

}  // namespace tenantry::detail
