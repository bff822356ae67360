#include "limiting/limit_rules.hpp"

#include "limiting/scripts.hpp"

#include <tenantry/detail/schema_base.hpp>
#include <tenantry/error.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t most_units = 4'000'000'000;  // what four bytes of a count can hold
constexpr std::uint64_t most_in_a_log = 1'000'000;   // 8 MB of one key
constexpr std::uint64_t default_exact = 1'000;
constexpr std::size_t most_limits = 8;

std::int64_t microseconds(std::chrono::milliseconds span) {
  return std::chrono::duration_cast<std::chrono::microseconds>(span).count();
}

/// Rounded up, so that never more units come back than the limit says.
std::int64_t time_of_unit(const rate_limit& of) {
  if (of.limit == 0) return 0;
  const std::int64_t window = microseconds(of.window);
  const auto units = static_cast<std::int64_t>(of.limit);
  return window / units + (window % units != 0 ? 1 : 0);
}

void check(const rate_limit& one, limit_kind kind) {
  if (one.window < 1ms || one.window > std::chrono::days{366}) {
    throw invalid_option{"rate_limit.window is not from 1 ms to 366 days"};
  }
  const std::uint64_t most = kind == limit_kind::sliding_log ? most_in_a_log : most_units;
  if (one.limit > most) throw invalid_option{"rate_limit.limit is more than " + std::to_string(most)};
  if (one.burst && kind != limit_kind::gcra) throw invalid_option{"rate_limit.burst needs limit_kind::gcra"};
  if (one.burst && (*one.burst < 1 || *one.burst > most_units)) {
    throw invalid_option{"rate_limit.burst is not from 1 to " + std::to_string(most_units)};
  }
  if (kind == limit_kind::gcra) {
    const auto burst = one.burst.value_or(one.limit);
    // The whole of it in microseconds has to be a number that Lua knows exactly.
    if (burst > 0 && time_of_unit(one) > (std::int64_t{1} << 51) / static_cast<std::int64_t>(burst)) {
      throw invalid_option{"rate_limit.burst takes longer than 71 years to come back"};
    }
  }
}

limit_kind kind_of(const std::vector<rate_limit>& limits) {
  std::optional<limit_kind> wanted;
  for (const rate_limit& each : limits) {
    if (!each.kind) continue;
    if (wanted && *wanted != *each.kind) throw invalid_option{"rate_limit.kind is not the same for all limits"};
    wanted = each.kind;
  }
  if (wanted) return *wanted;
  return limits.front().limit <= default_exact ? limit_kind::sliding_log : limit_kind::segmented_log;
}

const std::vector<rate_limit>& not_empty(const std::vector<rate_limit>& limits) {
  if (limits.empty()) throw invalid_option{"a rate_limiter needs a limit"};
  if (limits.size() > most_limits)
    throw invalid_option{"a rate_limiter has at most " + std::to_string(most_limits) + " limits"};
  return limits;
}

std::string_view suffix(limit_kind kind) noexcept {
  switch (kind) {
    case limit_kind::sliding_log:
      return "#log";
    case limit_kind::segmented_log:
      return "#seg";
    case limit_kind::gcra:
      return "#gcra";
  }
  return "#";
}

std::string_view word(limit_operation what) noexcept {
  switch (what) {
    case limit_operation::take:
      return "take";
    case limit_operation::most:
      return "most";
    case limit_operation::peek:
      return "peek";
    case limit_operation::refund:
      return "refund";
  }
  return "";
}

/// Rounded up: who waits so long has waited long enough, and a millisecond less is not.
std::chrono::milliseconds span_of(const reply& from) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::microseconds{from.integer()});
}

}  // namespace

limit_rules::limit_rules(std::vector<rate_limit> limits, limit_placement placement)
    : kind_{kind_of(not_empty(limits))}, placement_{placement}, limits_{std::move(limits)} {
  for (const rate_limit& each : limits_) {
    check(each, kind_);
    if (kind_ == limit_kind::gcra) {
      words_.push_back(std::to_string(each.limit == 0 ? 0 : each.burst.value_or(each.limit)));
      words_.push_back(std::to_string(time_of_unit(each)));
    } else {
      words_.push_back(std::to_string(each.limit));
      words_.push_back(std::to_string(microseconds(each.window)));
    }
  }
}

limit_rules limit_rules::with(std::vector<rate_limit> limits) const {
  if (limits.size() != limits_.size()) throw invalid_option{"set_limits: there have to be as many limits as before"};
  for (rate_limit& each : limits) {
    if (each.kind && *each.kind != kind_) throw invalid_option{"set_limits: the kind of a limiter does not change"};
    each.kind = kind_;
  }
  return limit_rules{std::move(limits), placement_};
}

const script& limit_rules::which() const noexcept {
  switch (kind_) {
    case limit_kind::segmented_log:
      return scripts::segmented_log();
    case limit_kind::gcra:
      return scripts::gcra();
    case limit_kind::sliding_log:
      break;
  }
  return scripts::sliding_log();
}

std::string limit_rules::key(const tenant_id& tenant, std::string_view path) const {
  const std::string encoded = encode_segment(path.substr(0, path.find('?')));
  const bool whole = placement_ == limit_placement::tenant;
  std::string name;
  name.reserve(tenant.str().size() + encoded.size() + 20);
  name.append("ratelimit:{").append(tenant.str()).append(whole ? "}:" : ":").append(encoded);
  if (!whole) name += '}';
  name += suffix(kind_);
  return name;
}

std::vector<std::string_view> limit_rules::arguments(limit_operation what, std::string_view cost) const {
  std::vector<std::string_view> all;
  all.reserve(words_.size() + 3);
  all.insert(all.end(), {word(what), cost, std::string_view{}});
  all.insert(all.end(), words_.begin(), words_.end());
  return all;
}

std::string cost_word(std::uint64_t cost) {
  if (cost > most_units) throw invalid_option{"a cost of more than " + std::to_string(most_units)};
  return std::to_string(cost);
}

decision limit_rules::read(limit_operation what, std::uint64_t cost, const reply& from) const {
  decision made;
  made.cost = cost;
  made.granted = static_cast<std::uint64_t>(from[0].integer());
  made.allowed = made.granted > 0 || cost == 0 || what == limit_operation::refund;
  std::vector<limit_state> all;
  for (std::size_t i = 0; i < limits_.size(); ++i) {
    limit_state one{.limit = limits_[i].limit, .window = limits_[i].window};
    one.remaining = static_cast<std::uint64_t>(from[4 * i + 1].integer());
    const std::int64_t retry = from[4 * i + 2].integer();
    one.retry_after = retry < 0 ? std::nullopt : std::optional{span_of(from[4 * i + 2])};
    one.next_in = span_of(from[4 * i + 3]);
    one.reset_after = span_of(from[4 * i + 4]);
    all.push_back(one);
  }
  choose(made, std::move(all));
  return made;
}

void choose(decision& of, std::vector<limit_state> all) {
  const auto sooner = [](const limit_state& a, const limit_state& b) {
    if (!a.retry_after || !b.retry_after) return a.retry_after && !b.retry_after;
    return *a.retry_after < *b.retry_after;
  };
  const auto decides =
      of.allowed ? std::ranges::min_element(all, {}, &limit_state::remaining) : std::ranges::max_element(all, sooner);
  of.decided_by = static_cast<std::size_t>(decides - all.begin());
  static_cast<limit_state&>(of) = *decides;
  if (all.size() > 1) of.limits = std::move(all);
}

}  // namespace tenantry::detail
