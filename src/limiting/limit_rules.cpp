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

constexpr std::uint64_t most_in_a_log = 1'000'000;  // 8 MB of one key
constexpr std::uint64_t default_exact = 1'000;

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
    case limit_operation::most:
      return "take";
    case limit_operation::peek:
      return "peek";
    case limit_operation::refund:
      return "refund";
  }
  return "";
}

/// Rounded up: who waits so long has waited long enough, and a millisecond less is not.
std::chrono::milliseconds rest_of(std::chrono::microseconds span, std::chrono::microseconds since) {
  return span <= since ? 0ms : std::chrono::ceil<std::chrono::milliseconds>(span - since);
}

std::chrono::microseconds span_of(const reply& from) { return std::chrono::microseconds{from.integer()}; }

/// How long all of a burst takes to come back.
std::chrono::microseconds length_of(const rate_limit& one, limit_kind kind) {
  if (kind != limit_kind::gcra) return one.window;
  return std::chrono::microseconds{time_of_unit(one)} * static_cast<std::int64_t>(one.burst.value_or(one.limit));
}

}  // namespace

limit_rules::limit_rules(std::vector<rate_limit> limits, limit_placement placement)
    : kind_{kind_of(not_empty(limits))}, placement_{placement}, limits_{std::move(limits)} {
  for (const rate_limit& each : limits_) {
    check(each, kind_);
    if (each.limit > 0) admit_nothing_ = false;
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

std::string limit_rules::key(const limited_view& name) const {
  const std::string encoded = encode_segment(name.path);
  const bool whole = placement_ == limit_placement::tenant;
  std::string text;
  text.reserve(name.tenant.size() + encoded.size() + 20);
  text.append("ratelimit:{").append(name.tenant).append(whole ? "}:" : ":").append(encoded);
  if (!whole) text += '}';
  text += suffix(kind_);
  return text;
}

std::vector<std::string> limit_rules::arguments(const limit_question& question) const {
  const bool in_parts = question.what == limit_operation::most;
  std::vector<std::string> all;
  all.reserve(words_.size() + 4);
  all.emplace_back(word(question.what));
  all.push_back(std::to_string(in_parts ? std::min<std::uint64_t>(question.cost, 1) : question.cost));
  all.push_back(std::to_string(in_parts ? question.cost : question.requests));
  all.push_back(std::to_string(question.ahead.count()));
  all.insert(all.end(), words_.begin(), words_.end());
  return all;
}

limit_answer limit_rules::read(const reply& from) const {
  limit_answer answer;
  answer.granted = static_cast<std::uint64_t>(from[0].integer());
  for (std::size_t i = 0; i < limits_.size(); ++i) {
    answer.of[i] = {.left = static_cast<std::uint64_t>(from[4 * i + 1].integer()),
                    .retry = span_of(from[4 * i + 2]),
                    .next = span_of(from[4 * i + 3]),
                    .reset = span_of(from[4 * i + 4])};
  }
  return answer;
}

std::chrono::microseconds limit_answer::retry(std::size_t limits) const noexcept {
  std::chrono::microseconds longest{0};
  for (std::size_t i = 0; i < limits; ++i) {
    if (of[i].retry.count() < 0) return of[i].retry;
    longest = std::max(longest, of[i].retry);
  }
  return longest;
}

decision limit_rules::decide(limit_operation what, std::uint64_t cost, const limit_answer& answer,
                             const limit_share& mine) const {
  decision made;
  made.cost = cost;
  made.granted = mine.granted;
  made.allowed = made.granted > 0 || cost == 0 || what == limit_operation::refund;
  made.source = mine.source;
  std::vector<limit_state> all;
  if (limits_.size() > 1) all.reserve(limits_.size());
  for (std::size_t i = 0; i < limits_.size(); ++i) {
    const limit_figures& figures = answer.of[i];
    limit_state one{.limit = limits_[i].limit, .window = limits_[i].window};
    one.remaining = figures.left + mine.taken_after;
    if (figures.retry.count() < 0 && !made.allowed) {
      one.retry_after = std::nullopt;
    } else {
      one.retry_after = made.allowed ? 0ms : rest_of(figures.retry, mine.since);
    }
    one.next_in = rest_of(figures.next, mine.since);
    one.reset_after = rest_of(figures.reset, mine.since);
    if (limits_.size() == 1) {
      static_cast<limit_state&>(made) = one;
      return made;
    }
    all.push_back(one);
  }
  choose(made, std::move(all));
  return made;
}

std::uint64_t limit_rules::most_ahead(const grant_options& how) const {
  if (!(how.share > 0 && how.share <= 1)) throw invalid_option{"grant_options.share is not above 0 and up to 1"};
  if (how.life < 1ms) throw invalid_option{"grant_options.life is less than 1 ms"};
  std::uint64_t most = most_units;
  for (const rate_limit& each : limits_) {
    if (how.life > length_of(each, kind_) / 10) {
      throw invalid_option{"grant_options.life is more than a tenth of the window, or of what a burst takes"};
    }
    most = std::min(most, static_cast<std::uint64_t>(static_cast<double>(each.limit) * how.share));
  }
  return std::max<std::uint64_t>(most, 1);
}

bool limit_rules::may_take_ahead(std::uint64_t cost, std::chrono::milliseconds life) const noexcept {
  if (kind_ != limit_kind::gcra || cost == 0) return cost > 0;
  return std::ranges::all_of(limits_, [&](const rate_limit& each) {
    const std::uint64_t burst = each.burst.value_or(each.limit);
    if (cost > burst) return true;  // never admitted anyway
    return std::chrono::microseconds{time_of_unit(each)} * static_cast<std::int64_t>(burst - cost) >= life;
  });
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
