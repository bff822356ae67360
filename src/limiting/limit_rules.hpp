#pragma once
// Limits as the scripts take them, and decisions as they give them.

#include "limiting/limited_name.hpp"

#include <tenantry/rate_decision.hpp>
#include <tenantry/rate_limiter.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/script.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

inline constexpr std::size_t most_limits = 8;

/// As many units as a script can count, and one more, which is never admitted.
inline constexpr std::uint64_t most_units = 4'000'000'000;
inline constexpr std::uint64_t too_many_units = most_units + 1;

/// `most` takes as much of a cost as there is; for the scripts that is as many requests of cost 1.
enum class limit_operation : unsigned char { take, most, peek, refund };

/// What a script is asked.
struct limit_question {
  limit_operation what = limit_operation::take;
  std::uint64_t cost = 1;
  std::uint64_t requests = 1;
  std::chrono::microseconds ahead{0};  // by which the units may be used later
};

/// What it answers, of each limit. Times from the server's decision on; a retry of -1: never.
struct limit_figures {
  std::uint64_t left = 0;
  std::chrono::microseconds retry{0};
  std::chrono::microseconds next{0};
  std::chrono::microseconds reset{0};
};
struct limit_answer {
  std::uint64_t granted = 0;
  std::array<limit_figures, most_limits> of{};

  /// The longest of the first `limits`; -1: never.
  [[nodiscard]] std::chrono::microseconds retry(std::size_t limits) const noexcept;
};

/// What of an answer is one request's.
struct limit_share {
  std::uint64_t granted = 0;
  std::uint64_t taken_after = 0;       // units of the same answer that others got after it
  std::chrono::microseconds since{0};  // the decision
  decision_source source = decision_source::redis;
};

/// The limits of a limiter, checked. Does not change.
class limit_rules {
 public:
  /// Errors: invalid_option, naming the field.
  limit_rules(std::vector<rate_limit> limits, limit_placement placement);
  /// Errors: also where their number is another one, or they ask for another kind.
  [[nodiscard]] limit_rules with(std::vector<rate_limit> limits) const;

  [[nodiscard]] limit_kind kind() const noexcept { return kind_; }
  [[nodiscard]] const std::vector<rate_limit>& limits() const noexcept { return limits_; }
  /// True when no cost is ever admitted.
  [[nodiscard]] bool admit_nothing() const noexcept { return admit_nothing_; }
  [[nodiscard]] const script& which() const noexcept;
  [[nodiscard]] std::string key(const limited_view& name) const;
  /// For the script.
  [[nodiscard]] std::vector<std::string> arguments(const limit_question& question) const;
  /// Errors: error (unexpected_reply).
  [[nodiscard]] limit_answer read(const reply& from) const;
  [[nodiscard]] decision decide(limit_operation what, std::uint64_t cost, const limit_answer& answer,
                                const limit_share& mine) const;

  /// How many units a process may take ahead, for this long. Errors: invalid_option, where that cannot be.
  [[nodiscard]] std::uint64_t most_ahead(const grant_options& how) const;
  /// False where a cost is only admitted to who uses it at once.
  [[nodiscard]] bool may_take_ahead(std::uint64_t cost, std::chrono::milliseconds life) const noexcept;

 private:
  limit_kind kind_;
  limit_placement placement_;
  std::vector<rate_limit> limits_;
  std::vector<std::string> words_;  // of each limit two
  bool admit_nothing_ = true;
};

/// The figures of the limit that decided, from those of all.
void choose(decision& of, std::vector<limit_state> all);

}  // namespace tenantry::detail
