#include "engine/options.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <string>

namespace tenantry::detail {

using namespace std::chrono_literals;

void check(const call_bounds& bounds) {
  const auto positive = [](std::size_t value, const char* field) {
    if (value == 0) throw invalid_option{"call_bounds." + std::string{field} + " is 0"};
  };
  positive(bounds.in_flight, "in_flight");
  positive(bounds.in_flight_bytes, "in_flight_bytes");
  positive(bounds.queued, "queued");
  positive(bounds.queued_bytes, "queued_bytes");
  positive(bounds.queued_while_down, "queued_while_down");
  positive(bounds.queued_bytes_while_down, "queued_bytes_while_down");
  positive(bounds.exclusive_connections, "exclusive_connections");
  if (!(bounds.tenant_share > 0 && bounds.tenant_share <= 1)) {
    throw invalid_option{"call_bounds.tenant_share is not above 0 and at most 1"};
  }
}

std::chrono::milliseconds stall_limit(const client_options& options) {
  if (options.stall_limit) return *options.stall_limit;
  return std::clamp<std::chrono::milliseconds>(std::min<std::chrono::milliseconds>(options.timeout, 1h) * 2, 2s, 1h);
}

}  // namespace tenantry::detail
