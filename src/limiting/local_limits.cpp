#include "limiting/local_limits.hpp"

#include <algorithm>
#include <optional>
#include <ranges>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

std::chrono::milliseconds until(local_limits::time_point then, local_limits::time_point now) {
  return then <= now ? 0ms : std::chrono::ceil<std::chrono::milliseconds>(then - now);
}

}  // namespace

std::vector<rate_limit> local_limits::share_of(const std::vector<rate_limit>& limits, unsigned instances) {
  std::vector<rate_limit> all = limits;
  for (rate_limit& each : all) {
    if (each.limit > 0) each.limit = std::max<std::uint64_t>(each.limit / instances, 1);
  }
  return all;
}

void local_limits::forget(const limited_view& name) {
  const std::lock_guard held{mutex_};
  by_name_.erase(name);
}

decision local_limits::decide(limit_operation what, const limited_view& name, std::uint64_t cost,
                              const std::vector<rate_limit>& limits, time_point now) {
  const std::lock_guard held{mutex_};
  auto& entries = by_name_.at(name);
  const auto longest = std::ranges::max_element(limits, {}, &rate_limit::window)->window;
  while (!entries.empty() && entries.front().at <= now - longest) entries.pop_front();

  const auto used_in = [&](std::chrono::milliseconds window) {
    std::uint64_t units = 0;
    for (const admitted& each : std::views::reverse(entries)) {
      if (each.at <= now - window) break;
      units += each.units;
    }
    return units;
  };
  /// When no more than so many units are left of those used in a window.
  const auto falls_to = [&](std::uint64_t left, std::chrono::milliseconds window) {
    std::uint64_t units = 0;
    for (const admitted& each : std::views::reverse(entries)) {
      units += each.units;
      if (units > left) return until(each.at + window, now);
    }
    return 0ms;
  };

  decision made;
  made.cost = cost;
  made.source = decision_source::insurance;
  std::uint64_t granted = cost;
  for (const rate_limit& each : limits) {
    const std::uint64_t used = used_in(each.window);
    const std::uint64_t left = each.limit > used ? each.limit - used : 0;
    if (what == limit_operation::most) {
      granted = std::min(granted, left);
    } else if (cost > left && what != limit_operation::refund) {
      granted = 0;
    }
  }
  made.granted = granted;
  made.allowed = granted > 0 || cost == 0 || what == limit_operation::refund;
  const std::uint64_t wanted = what == limit_operation::most ? std::min<std::uint64_t>(cost, 1) : cost;
  std::vector<std::optional<std::chrono::milliseconds>> retries;
  for (const rate_limit& each : limits) {
    if (made.allowed) {
      retries.emplace_back(0ms);
    } else if (wanted > each.limit) {
      retries.emplace_back(std::nullopt);
    } else {
      retries.emplace_back(falls_to(each.limit - wanted, each.window));
    }
  }
  if (what == limit_operation::refund) {
    std::uint64_t rest = cost;
    while (rest > 0 && !entries.empty()) {
      const std::uint64_t part = std::min(rest, entries.back().units);
      entries.back().units -= part;
      rest -= part;
      if (entries.back().units == 0) entries.pop_back();
    }
    made.granted = cost - rest;
  } else if (what != limit_operation::peek && granted > 0) {
    entries.push_back({.at = now, .units = granted});
  }
  std::vector<limit_state> all;
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const std::uint64_t used = used_in(limits[i].window);
    limit_state one;
    one.limit = limits[i].limit;
    one.window = limits[i].window;
    one.remaining = one.limit > used ? one.limit - used : 0;
    one.retry_after = retries[i];
    one.next_in = used == 0 || one.limit == 0 ? 0ms : falls_to(std::min(used, one.limit) - 1, one.window);
    one.reset_after = falls_to(0, one.window);
    all.push_back(one);
  }
  choose(made, std::move(all));
  return made;
}

}  // namespace tenantry::detail
