#include <tenantry/rate_decision.hpp>

#include <algorithm>

namespace tenantry {

namespace {

using namespace std::chrono_literals;

/// Rounded up: who waits so long has waited long enough.
std::string seconds(std::chrono::milliseconds span) {
  return std::to_string(std::chrono::ceil<std::chrono::seconds>(span).count());
}

/// A String of RFC 8941, and what belongs to a limit of the ietf style.
std::string policy_name(const decision& of, std::size_t number) {
  return of.limits.size() < 2 ? "\"default\"" : '"' + std::to_string(number + 1) + '"';
}

template <class Each>
std::string listed(const decision& of, Each&& each) {
  if (of.limits.empty()) return policy_name(of, 0) + each(static_cast<const limit_state&>(of));
  std::string all;
  for (std::size_t i = 0; i < of.limits.size(); ++i) {
    if (i > 0) all += ", ";
    all += policy_name(of, i) + each(of.limits[i]);
  }
  return all;
}

}  // namespace

std::string_view to_string(decision_source who) noexcept {
  switch (who) {
    case decision_source::redis:
      return "redis";
    case decision_source::denial_cache:
      return "denial_cache";
    case decision_source::grant:
      return "grant";
    case decision_source::insurance:
      return "insurance";
    case decision_source::fail_open:
      return "fail_open";
    case decision_source::fail_closed:
      return "fail_closed";
  }
  return "unknown";
}

std::vector<std::pair<std::string, std::string>> decision::headers(header_style style) const {
  std::vector<std::pair<std::string, std::string>> all;
  if (style == header_style::none) return all;
  const bool counted = source != decision_source::fail_open && source != decision_source::fail_closed;
  if (style == header_style::ietf && counted) {
    all.emplace_back("RateLimit-Policy", listed(*this, [](const limit_state& each) {
                       std::string text = ";q=" + std::to_string(each.limit);
                       if (each.window % 1s == 0ms)
                         text += ";w=" + seconds(each.window);  // only whole seconds can be told
                       return text;
                     }));
    all.emplace_back("RateLimit", listed(*this, [](const limit_state& each) {
                       return ";r=" + std::to_string(each.remaining) + ";t=" + seconds(each.next_in);
                     }));
  }
  if (style == header_style::x_ratelimit && counted) {
    all.emplace_back("X-RateLimit-Limit", std::to_string(limit));
    all.emplace_back("X-RateLimit-Remaining", std::to_string(remaining));
    all.emplace_back("X-RateLimit-Reset", seconds(reset_after));
  }
  if (!allowed && retry_after) all.emplace_back("Retry-After", seconds(std::max(*retry_after, 1ms)));
  return all;
}

}  // namespace tenantry
