#pragma once
// What requests for units share a call by, and what they learn from it.

#include "engine/seam.hpp"
#include "limiting/limit_rules.hpp"
#include "limiting/limited_name.hpp"

#include <tenantry/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace tenantry::detail {

/// The name and the rules live as long as the request.
struct units_wanted {
  limited_view name;
  std::uint64_t cost;
  const limit_rules* rules;

  [[nodiscard]] std::size_t hash() const noexcept { return name.hash() ^ (cost * 0x9e3779b97f4a7c15U); }
  friend bool operator==(const units_wanted& one, const units_wanted& other) noexcept {
    return one.cost == other.cost && one.rules == other.rules && one.name == other.name;
  }
};

struct units_told {
  std::optional<limit_answer> answer;
  std::shared_ptr<const error> failure;
  std::chrono::steady_clock::time_point received{};
};

using limit_calls = coalescer<units_wanted, units_told, 32>;

}  // namespace tenantry::detail
