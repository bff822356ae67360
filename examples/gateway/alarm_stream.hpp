#pragma once
// GET /alarms/stream: the alarms of a tenant as server-sent events, from where the browser was.

#include "http.hpp"
#include "services.hpp"
#include "telemetry.hpp"

#include <tenantry/tenant.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace gateway {

struct stream_counters {
  std::atomic<std::uint64_t> open{0};
  std::atomic<std::uint64_t> following{0};  // from now on they miss nothing
  std::atomic<std::uint64_t> opened{0};
  std::atomic<std::uint64_t> delivered{0};  // alarms
  std::atomic<std::uint64_t> gaps{0};
};

/// A comment is sent after so long without an alarm. The position is only one within the log of this tenant: whatever
/// id is given, nothing of another tenant is delivered.
stream alarm_stream(services& of, const event_lines& lines, stream_counters& counters, const request& from,
                    const tenantry::tenant_id& tenant, std::chrono::seconds keep_alive);

}  // namespace gateway
