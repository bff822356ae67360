#pragma once
// What a lane counts, under its driver's mutex.

#include "engine/histogram.hpp"

#include <tenantry/metrics.hpp>

namespace tenantry::detail {

struct lane_counters {
  lane_metrics totals;  // its name and gauges are filled in by `snapshot`
  histogram_recorder round_trip;

  template <class Waiting>
  [[nodiscard]] lane_metrics snapshot(std::string_view name, const Waiting& waiting) const {
    lane_metrics now = totals;
    now.name = name;
    now.queued = waiting.queued();
    now.queued_bytes = waiting.queued_bytes();
    now.in_flight = waiting.in_flight();
    now.in_flight_bytes = waiting.in_flight_bytes();
    now.round_trip = round_trip.snapshot();
    return now;
  }
};

}  // namespace tenantry::detail
