#pragma once
// All that the gateway uses of Tenantry, in one place: what is kept how long, and what it is loaded from.

#include "schemas.hpp"
#include "store.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/cache_options.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/subscriber.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace gateway {

struct service_options {
  std::uint64_t limit = 100;  // requests a minute of a tenant and route
  unsigned instances = 1;     // that share it when Redis is away
};

/// What each cache keeps in the memory of the instance. Not of the health of gateways: it is put more often than read.
inline constexpr tenantry::near_options in_memory{.max_bytes = std::size_t{16} << 20U,
                                                  .max_age = std::chrono::seconds{10}};

/// The database is asked on threads of its own only.
struct services {
  services(const tenantry::client& to, store& from, const service_options& how);

  const tenantry::client& redis;
  store& database;
  tenantry::thread_pool loaders{2};
  tenantry::thread_pool direct{2};  // for routes that ask the database themselves: a cache hit does not wait for them

  tenantry::cache<kpi> kpis;
  tenantry::cache<month> months;
  tenantry::cache<std::string> settlements;  // the bytes of a PDF
  tenantry::cache<health> gateways;          // put by the ingest
  tenantry::invalidator invalidate;
  tenantry::rate_limiter limiter;
  tenantry::event_log<alarm> alarm_log;
  tenantry::subscriber subscriber;
};

/// Seconds since 1970.
std::int64_t unix_now() noexcept;

}  // namespace gateway
