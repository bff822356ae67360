#include "limiting/denial_cache.hpp"

#include <tenantry/error.hpp>

#include <algorithm>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

/// Redis denies `most` only where nothing is left.
std::uint64_t denied_cost(limit_operation what, std::uint64_t cost) noexcept {
  return what == limit_operation::most ? std::min<std::uint64_t>(cost, 1) : cost;
}

}  // namespace

denial_cache::denial_cache(const denial_cache_options& how)
    : max_age_{std::min<std::chrono::milliseconds>(how.max_age, std::chrono::days{366})} {
  if (how.max_age < 1ms) throw invalid_option{"denial_cache_options.max_age is less than 1 ms"};
  if (how.names == 0) throw invalid_option{"denial_cache_options.names is 0"};
  for (shard& each : shards_) each.by_name.emplace((how.names + shard_count - 1) / shard_count);
}

std::uint64_t denial_cache::changes(const limited_view& name) const noexcept {
  return shard_of(name).changes.load(std::memory_order_acquire);
}

std::optional<decision> denial_cache::find(const limited_view& name, limit_operation what, std::uint64_t cost,
                                           const limit_rules& rules, time_point now) {
  shard& in = shard_of(name);
  const std::lock_guard held{in.mutex};
  denials* const known = in.by_name->find(name);
  if (known == nullptr) return std::nullopt;
  const std::uint64_t wanted = denied_cost(what, cost);
  for (const denial& each : known->of) {
    if (each.rules != &rules || each.cost != wanted || now >= each.until) continue;
    const auto since = std::chrono::duration_cast<std::chrono::microseconds>(now - each.received);
    return rules.decide(what, cost, each.answer,
                        {.since = std::max(since, 0us), .source = decision_source::denial_cache});
  }
  return std::nullopt;
}

void denial_cache::add(const limited_view& name, std::uint64_t cost, const limit_rules& rules,
                       const limit_answer& answer, time_point sent, time_point received, std::uint64_t changes) {
  const auto retry = answer.retry(rules.limits().size());
  const auto life =
      retry.count() < 0 ? std::chrono::microseconds{max_age_} : std::min<std::chrono::microseconds>(retry, max_age_);
  if (sent + life <= received) return;
  shard& in = shard_of(name);
  const std::lock_guard held{in.mutex};
  if (in.changes.load(std::memory_order_relaxed) != changes) return;
  auto& known = in.by_name->at(name).of;
  const auto same =
      std::ranges::find_if(known, [&](const denial& each) { return each.rules == &rules && each.cost == cost; });
  denial& place = same != known.end() ? *same : *std::ranges::min_element(known, {}, &denial::until);
  place = {.rules = &rules, .cost = cost, .until = sent + life, .received = received, .answer = answer};
}

void denial_cache::drop(const limited_view& name) {
  shard& in = shard_of(name);
  const std::lock_guard held{in.mutex};
  in.by_name->erase(name);
}

void denial_cache::forget(const limited_view& name) {
  shard& in = shard_of(name);
  const std::lock_guard held{in.mutex};
  in.changes.fetch_add(1, std::memory_order_release);
  in.by_name->erase(name);
}

}  // namespace tenantry::detail
