#pragma once
// What a rate limiter decided, and how to tell an HTTP client.

#include <tenantry/error.hpp>
#include <tenantry/export.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenantry {

/// Who decided.
enum class decision_source : unsigned char {
  redis,
  denial_cache,  ///< this process, which knows until when Redis would deny
  grant,         ///< this process, from units that it has taken ahead
  insurance,     ///< this process alone, because Redis did not answer
  fail_open,     ///< nobody: Redis did not answer, and all is allowed
  fail_closed,   ///< nobody: Redis did not answer, and all is denied
};

/// The enumerator's name, for logs: "redis".
TENANTRY_EXPORT std::string_view to_string(decision_source who) noexcept;

/// Which header fields a decision is told in.
enum class header_style : unsigned char {
  none,
  retry_after,  ///< `Retry-After` (RFC 9110), in whole seconds, where something was denied that will be allowed
  ietf,         ///< and `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): no standard yet
  x_ratelimit,  ///< and `X-RateLimit-Limit`, `-Remaining` and `-Reset`, the last in seconds from now on
};

/// One limit of a limiter, after a decision.
struct limit_state {
  std::uint64_t limit = 0;
  std::chrono::milliseconds window{0};
  std::uint64_t remaining = 0;
  /// Waiting so long and asking again succeeds, if nobody else comes; less does not. 0 where the cost is or was
  /// allowed. Nothing: never, it is more than the limit.
  std::optional<std::chrono::milliseconds> retry_after = std::chrono::milliseconds{0};
  std::chrono::milliseconds next_in{0};      ///< until one more unit is free; 0 when all are
  std::chrono::milliseconds reset_after{0};  ///< until all are
};

/// The figures of the limit that decided: the one that denied for longest, or that has the least left. They are 0 where
/// nobody counted (fail_open, fail_closed).
struct decision : limit_state {
  bool allowed = false;
  std::uint64_t cost = 0;
  std::uint64_t granted = 0;  ///< of the cost
  decision_source source = decision_source::redis;
  std::size_t decided_by = 0;  ///< the number of that limit, from 0
  /// Of each limit, in order, where there are several.
  std::vector<limit_state> limits = {};
  /// Why Redis did not decide; nullptr when it did.
  std::shared_ptr<const error> failure = {};

  explicit operator bool() const noexcept { return allowed; }

  /// Names and values, in the order in which they are to be sent.
  [[nodiscard]] TENANTRY_EXPORT std::vector<std::pair<std::string, std::string>> headers(
      header_style style = header_style::retry_after) const;
};

}  // namespace tenantry
