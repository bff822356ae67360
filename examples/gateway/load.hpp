#pragma once
// Dashboards, bursts and alarm listeners against running gateways, and what they saw.

#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace gateway {

struct load_options {
  std::uint16_t port = 0;
  std::vector<tenantry::tenant_id> tenants;
  std::size_t instances = 1;
  std::size_t dashboards = 200;  // each asks for its KPI once a second
  std::size_t listeners = 200;
  std::chrono::seconds length{20};
  std::function<bool()> interrupted = [] { return false; };
};

struct load_report {
  double seconds = 0;
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;
  std::uint64_t limited = 0;  // 429
  double p50_ms = 0;
  double p99_ms = 0;
  std::map<std::string, std::uint64_t> by_source;
  std::uint64_t database_queries = 0;
  std::uint64_t alarms = 0;     // appended meanwhile
  std::uint64_t delivered = 0;  // to all listeners together
  std::uint64_t lost = 0;       // that a listener did not get
  std::map<std::string, std::uint64_t> answered_by;

  [[nodiscard]] std::string table() const;
};

load_report run_load(const load_options& how);

/// True when that many instances say so.
bool all_healthy(std::uint16_t port, std::size_t instances);

}  // namespace gateway
