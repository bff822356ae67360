#include "caching/background_loads.hpp"
#include "caching/fetch_run.hpp"

#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>

#include <algorithm>
#include <iterator>
#include <optional>
#include <stop_token>
#include <utility>

namespace tenantry::detail {

namespace {

task<void> go_on(std::unique_ptr<fetch_group> group, std::shared_ptr<const any_async_loader> load,
                 any_batch_loader load_all, background_loads::place mine) {
  auto running = group->async_run(load, load_all);
  co_await std::move(running);
  group->end_alone();
  group.reset();
  load.reset();
  load_all = {};
  mine.leave();  // the cache may be gone from here on
}

}  // namespace

/// Those that have something to ask, and all of it.
struct fetch_group::asked {
  std::vector<fetch_session*> sessions;
  std::vector<request> requests;
  caller by;
};

bool fetch_group::any(fetch_step what) const noexcept {
  return std::ranges::any_of(sessions_, [what](const auto& each) { return each->step == what; });
}

/// One write for all. Of several tenants it takes nobody's share.
fetch_group::asked fetch_group::begin_asking() {
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
  return {std::move(asking), std::move(requests), of_one ? on_.through(tenant) : on_.through_any()};
}

void fetch_group::end_asking(const asked& who, answers all) {
  auto next = std::make_move_iterator(all.replies.begin());
  for (fetch_session* each : who.sessions) {
    const auto count = static_cast<std::ptrdiff_t>(each->machine.requests().size());
    answers own{.replies = {next, next + count}, .tracked = all.tracked};
    next += count;
    try {
      each->answered(std::move(own));
    } catch (const error& why) {
      each->unanswered(why);
    }
  }
}

void fetch_group::fail_asking(const asked& who, const error& why) {
  for (fetch_session* each : who.sessions) each->unanswered(why);
}

/// All that needs neither Redis nor a loader nor others.
void fetch_group::settle_all() {
  for (const auto& each : sessions_) {
    while (each->step == fetch_step::decode || each->step == fetch_step::board) {
      each->step == fetch_step::decode ? each->decode() : each->board();
    }
  }
}

/// Fresh values that are due are renewed one by one; what is missing is loaded by one group.
void fetch_group::leave_all(const std::shared_ptr<const any_async_loader>& load, const any_batch_loader& load_all) {
  sessions leaving;
  std::vector<std::stop_source> over;
  for (const auto& each : sessions_) {
    if (!each->can_leave()) continue;
    if (each->machine.refreshing()) {
      leave_refreshing(on_, *each, load);
    } else {
      over.push_back(each->load_over());
    }
  }
  if (over.empty()) return;
  auto mine = on_.background().enter(std::move(over));
  for (auto& each : sessions_) {
    if (!each->can_leave()) continue;
    if (!mine) {
      each->stay();
      continue;
    }
    auto staying = std::make_unique<fetch_session>(on_, each->name(), fetcher::outside);
    staying->follow(each->hand_over(), each->machine);
    std::swap(each, staying);
    leaving.push_back(std::move(staying));
  }
  if (!mine) return;
  auto group = std::make_unique<fetch_group>(on_, std::move(leaving));
  start(go_on(std::move(group), load, load_all, *std::move(mine)), [](const std::exception_ptr&) {});
}

void fetch_group::load_all_at_once(const any_batch_loader& load_all, const std::exception_ptr& refused, bool begun) {
  std::vector<fetch_session*> missing;
  for (const auto& each : sessions_) {
    if (each->step == fetch_step::load) missing.push_back(each.get());
  }
  if (refused) {
    for (fetch_session* each : missing) {
      if (begun) each->count_begin();
      each->load_failed(refused, begun);
    }
  } else {
    fetch_session::load_together(on_, missing, load_all);
  }
}

/// False when nothing of its own is under way any more, so that waiting holds up nobody.
bool fetch_group::begin_round(const std::shared_ptr<const any_async_loader>& load, const any_batch_loader& load_all) {
  for (const auto& each : sessions_) each->land_if_over();
  settle_all();
  if (load) leave_all(load, load_all);
  return any(fetch_step::ask) || any(fetch_step::load);
}

void fetch_group::run(const loading& how, const any_batch_loader& load_all) {
  while (begin_round(how.anywhere, load_all)) {
    if (any(fetch_step::ask)) {
      const asked all = begin_asking();
      try {
        on_.check_breaker();
        end_asking(all, on_.send(all.by, all.requests));
      } catch (const error& why) {
        fail_asking(all, why);
      }
    } else if (load_all) {
      load_all_at_once(load_all, nullptr, true);
    } else {
      for (const auto& each : sessions_) {
        if (each->step == fetch_step::load) each->take_step(how.here);
      }
    }
  }
  for (auto& each : sessions_) detail::run(on_, each, how);
}

task<void> fetch_group::async_run(std::shared_ptr<const any_async_loader> load, const any_batch_loader& load_all) {
  while (begin_round(load, load_all)) {
    if (any(fetch_step::ask)) {
      const asked all = begin_asking();
      std::optional<error> failed;
      try {
        on_.check_breaker();
        auto sent = on_.async_send(all.by, all.requests);
        answers replies = co_await std::move(sent);
        end_asking(all, std::move(replies));
      } catch (const error& why) {
        failed.emplace(why);
      }
      if (failed) fail_asking(all, *failed);
    } else if (load_all) {
      std::exception_ptr refused;
      bool begun = true;
      try {
        if (sessions_.front()->away()) {
          auto moving = resume_on(on_.options().executor);
          co_await std::move(moving);
          begun = !sessions_.front()->stopped();
          sessions_.front()->check_not_stopped();
        }
      } catch (...) {
        refused = std::current_exception();
      }
      load_all_at_once(load_all, refused, begun);
    } else {
      for (const auto& each : sessions_) {
        if (each->step != fetch_step::load) continue;
        auto one = each->async_take_step(*load);
        co_await std::move(one);
      }
    }
  }
  for (auto& each : sessions_) {
    auto one = detail::async_run(on_, each, load);
    co_await std::move(one);
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

void fetch_group::end_alone() {
  for (const auto& each : sessions_) each->end_alone();
}

}  // namespace tenantry::detail
