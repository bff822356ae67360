#pragma once
// What tests of rate limiters need: how often Redis was asked, and when what was admitted.

#include "support/cache_rig.hpp"

#include <tenantry/client.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace support {

inline constexpr std::array all_kinds{tenantry::limit_kind::sliding_log, tenantry::limit_kind::segmented_log,
                                      tenantry::limit_kind::gcra};

constexpr std::string_view key_end(tenantry::limit_kind kind) {
  return kind == tenantry::limit_kind::sliding_log     ? "#log"
         : kind == tenantry::limit_kind::segmented_log ? "#seg"
                                                       : "#gcra";
}

/// Options under which Redis decides, however slow the machine is, and every time.
inline tenantry::limiter_options asks_always() {
  return {.timeout = std::chrono::seconds{20}, .denial_cache = std::nullopt};
}
/// The same, but denials are remembered.
inline tenantry::limiter_options remembers(std::chrono::milliseconds max_age = std::chrono::minutes{10},
                                           std::size_t names = 1000) {
  return {.timeout = std::chrono::seconds{20},
          .denial_cache = tenantry::denial_cache_options{.names = names, .max_age = max_age}};
}

/// A client for a server that is slow, or goes away, in a test; its breaker never opens.
inline tenantry::client_options lasting(const std::string& url) {
  auto options = tenantry::client_options::from_url(url);
  options.timeout = std::chrono::seconds{20};
  options.stall_limit = std::chrono::minutes{10};
  options.breaker.consecutive_failures = UINT32_MAX;
  options.breaker.min_calls = UINT32_MAX;
  return options;
}

/// A number in what INFO says; 0 where it is not there.
inline std::uint64_t info(const tenantry::client& redis, std::string_view section, const std::string& field) {
  const std::string text = redis.execute("INFO", section).str();
  const auto at = text.find(field);
  return at == std::string::npos ? 0 : std::stoull(text.substr(at + field.size()));
}
/// How often any script was called since `CONFIG RESETSTAT`.
inline std::uint64_t script_calls(const tenantry::client& redis) {
  return info(redis, "commandstats", "cmdstat_evalsha:calls=") + info(redis, "commandstats", "cmdstat_eval:calls=");
}

/// When what was admitted was asked for, and when the answer was there, in microseconds: for several processes.
struct admissions {
  struct one {
    std::atomic<std::int64_t> asked;
    std::atomic<std::int64_t> told;
    std::atomic<std::int64_t> units;
  };
  static constexpr std::size_t most = 60'000;
  std::atomic<std::size_t> count{0};
  std::array<one, most> all;

  static std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  void note(std::int64_t asked, std::int64_t told, std::uint64_t units) {
    const std::size_t place = count++;
    if (place >= most) return;
    all[place].asked = asked;
    all[place].told = told;
    all[place].units = static_cast<std::int64_t>(units);
  }
  /// The most units that were both asked for and admitted within some time of less than `window`.
  [[nodiscard]] std::int64_t most_within(std::chrono::microseconds window) const {
    struct span {
      std::int64_t asked, told, units;
    };
    std::vector<span> by_end;
    for (std::size_t i = 0; i < std::min(count.load(), most); ++i) {
      by_end.push_back({.asked = all[i].asked, .told = all[i].told, .units = all[i].units});
    }
    std::ranges::sort(by_end, {}, &span::told);
    std::vector<std::int64_t> begins;
    for (const span& each : by_end) begins.push_back(each.asked);
    std::int64_t worst = 0;
    for (const std::int64_t begin : begins) {
      std::int64_t units = 0;
      const auto first = std::ranges::lower_bound(by_end, begin, {}, &span::told);
      for (auto at = first; at != by_end.end() && at->told < begin + window.count(); ++at) {
        if (at->asked >= begin) units += at->units;
      }
      worst = std::max(worst, units);
    }
    return worst;
  }
};

}  // namespace support
