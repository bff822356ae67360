#pragma once
// What the page and operators see of the values that an instance keeps in memory.

#include "services.hpp"
#include "telemetry.hpp"

#include <nlohmann/json_fwd.hpp>

namespace gateway {

/// How far a value from memory may be behind:
/// {"tracking": true, "max_age_ms": 10000, "push_delay_ms": {"p50": 0.4, "p99": 2.1}}. The delays are null until one
/// was measured.
nlohmann::json staleness(const services& of);

void show_near(const services& of, metrics_page& page);

}  // namespace gateway
