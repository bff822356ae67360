#include "caching/fetch_session.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace tenantry::detail {

fetch_group::fetch_group(cache_state& on, std::span<const key> keys) : on_{on}, keys_{keys} {
  sessions_.reserve(keys.size());
  for (const key& each : keys) {
    sessions_.push_back(std::make_unique<fetch_session>(on, each, true));
    sessions_.back()->step = sessions_.back()->machine.begin();
  }
}

bool fetch_group::any(fetch_step what) const noexcept {
  return std::ranges::any_of(sessions_, [what](const auto& each) { return each->step == what; });
}

/// One write for all that have something to ask. Of several tenants it takes nobody's share.
void fetch_group::ask_all() {
  std::vector<fetch_session*> asking;
  std::vector<request> requests;
  for (const auto& each : sessions_) {
    if (each->step != fetch_step::ask) continue;
    each->announce();
    asking.push_back(each.get());
    const auto& own = each->machine.requests();
    requests.insert(requests.end(), own.begin(), own.end());
  }
  const tenant_id& tenant = asking.front()->tenant();
  const bool of_one = std::ranges::all_of(asking, [&](const auto* each) { return each->tenant() == tenant; });
  std::vector<reply> replies;
  try {
    on_.check_breaker();
    replies = on_.send(of_one ? on_.through(tenant) : on_.through_any(), requests);
  } catch (const error& why) {
    for (fetch_session* each : asking) each->unanswered(why);
    return;
  }
  auto next = std::make_move_iterator(replies.begin());
  for (fetch_session* each : asking) {
    const auto count = static_cast<std::ptrdiff_t>(each->machine.requests().size());
    std::vector<reply> own{next, next + count};
    next += count;
    try {
      each->answered(std::move(own));
    } catch (const error& why) {
      each->unanswered(why);
    }
  }
}

/// All that needs neither Redis nor a loader nor others.
void fetch_group::settle_all() {
  for (const auto& each : sessions_) {
    while (each->step == fetch_step::decode || each->step == fetch_step::board) {
      each->step == fetch_step::decode ? each->decode() : each->board();
    }
  }
}

void fetch_group::load_all_at_once(const any_batch_loader& load_all) {
  std::vector<fetch_session*> loading;
  std::vector<key> missing;
  for (std::size_t i = 0; i < sessions_.size(); ++i) {
    if (sessions_[i]->step != fetch_step::load) continue;
    loading.push_back(sessions_[i].get());
    missing.push_back(keys_[i]);
  }
  if (loading.empty()) return;
  fetch_session::load_together(on_, loading, missing, load_all);
}

void fetch_group::run(const any_loader& load, const any_batch_loader& load_all) {
  for (;;) {
    settle_all();
    if (any(fetch_step::ask)) {
      ask_all();
    } else if (load_all && any(fetch_step::load)) {
      load_all_at_once(load_all);
    } else if (any(fetch_step::load)) {
      for (const auto& each : sessions_) {
        if (each->step == fetch_step::load) each->take_step(load);
      }
    } else {
      break;
    }
    for (const auto& each : sessions_) each->land_if_over();
  }
  // Nothing of its own is under way any more, so waiting holds up nobody.
  for (const auto& each : sessions_) {
    while (!each->over()) each->take_step(load);
  }
}

std::vector<fetched> fetch_group::end() {
  std::vector<fetched> results;
  results.reserve(sessions_.size());
  std::exception_ptr first;
  for (const auto& each : sessions_) {
    try {
      results.push_back(each->end());
    } catch (...) {
      if (!first) first = std::current_exception();
      results.emplace_back();
    }
  }
  if (first) std::rethrow_exception(first);
  return results;
}

}  // namespace tenantry::detail
