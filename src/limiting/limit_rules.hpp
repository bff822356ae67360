#pragma once
// Limits as the scripts take them, and decisions as they give them.

#include <tenantry/rate_decision.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/script.hpp>
#include <tenantry/tenant.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

enum class limit_operation : unsigned char { take, most, peek, refund };

/// The limits of a limiter, checked. Does not change.
class limit_rules {
 public:
  /// Errors: invalid_option, naming the field.
  limit_rules(std::vector<rate_limit> limits, limit_placement placement);
  /// Errors: also where their number is another one, or they ask for another kind.
  [[nodiscard]] limit_rules with(std::vector<rate_limit> limits) const;

  [[nodiscard]] limit_kind kind() const noexcept { return kind_; }
  [[nodiscard]] const std::vector<rate_limit>& limits() const noexcept { return limits_; }
  [[nodiscard]] const script& which() const noexcept;
  [[nodiscard]] std::string key(const tenant_id& tenant, std::string_view path) const;
  /// For the script; they live as long as `cost` and these rules.
  [[nodiscard]] std::vector<std::string_view> arguments(limit_operation what, std::string_view cost) const;
  /// Errors: error (unexpected_reply).
  [[nodiscard]] decision read(limit_operation what, std::uint64_t cost, const reply& from) const;

 private:
  limit_kind kind_;
  limit_placement placement_;
  std::vector<rate_limit> limits_;
  std::vector<std::string> words_;  // of each limit two
};

/// A cost as the scripts take it. Errors: invalid_option for one that they cannot count.
std::string cost_word(std::uint64_t cost);

/// The figures of the limit that decided, from those of all.
void choose(decision& of, std::vector<limit_state> all);

}  // namespace tenantry::detail
