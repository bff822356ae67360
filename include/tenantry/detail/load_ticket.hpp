#pragma once
// The right to put a value that was read after it was taken.

#include <chrono>
#include <string>

namespace tenantry {

/// Given by `cache::begin`, for one `put`. A plain value.
struct load_ticket {
  std::string key;
  std::string lease;  ///< in Redis, for `cache_options::lease_ttl`
  std::string stamp;
  std::chrono::microseconds began_at{0};  ///< by the server's clock, since 1970
};

}  // namespace tenantry
