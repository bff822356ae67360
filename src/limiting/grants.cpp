#include "limiting/grants.hpp"

#include <algorithm>

namespace tenantry::detail {

using std::chrono::duration_cast;
using std::chrono::microseconds;

std::optional<decision> grants::use(const limited_view& name, std::uint64_t cost, const limit_rules& rules,
                                    time_point now) {
  const std::lock_guard held{mutex_};
  purse* const mine = by_name_.find(name);
  if (mine == nullptr || mine->rules != &rules || now >= mine->until || mine->units < cost) return std::nullopt;
  mine->units -= cost;
  mine->used += cost;
  return rules.decide(limit_operation::take, cost, mine->answer,
                      {.granted = cost,
                       .taken_after = mine->units,
                       .since = std::max(duration_cast<microseconds>(now - mine->received), microseconds{0}),
                       .source = decision_source::grant});
}

std::uint64_t grants::wanted(const limited_view& name, const limit_rules& rules, time_point now) {
  const std::lock_guard held{mutex_};
  purse& mine = by_name_.at(name);
  if (mine.rules != &rules) mine = {.rules = &rules};
  const bool lasted = now >= mine.until;
  const std::uint64_t likely = lasted ? mine.used : std::max<std::uint64_t>(2 * mine.used, 1);
  const std::uint64_t most = rules.most_ahead(how_);
  return std::min(likely, most - std::min(lasted ? 0 : mine.units, most));
}

void grants::add(const limited_view& name, std::uint64_t units, const limit_rules& rules, const limit_answer& answer,
                 time_point sent, time_point received, std::uint64_t changes) {
  const std::lock_guard held{mutex_};
  if (changes_.load(std::memory_order_relaxed) != changes) return;
  purse& mine = by_name_.at(name);
  // What is left of those before is used with the new ones, and no longer than it would have been.
  const bool some_left = mine.rules == &rules && received < mine.until && mine.units > 0;
  const auto until = sent + how_.life;
  mine = {.rules = &rules,
          .units = units + (some_left ? mine.units : 0),
          .used = 0,
          .until = some_left ? std::min(mine.until, until) : until,
          .received = received,
          .answer = answer};
}

void grants::forget(const limited_view& name) {
  const std::lock_guard held{mutex_};
  changes_.fetch_add(1, std::memory_order_release);
  by_name_.erase(name);
}

}  // namespace tenantry::detail
