#include "caching/fetch_run.hpp"

#include "caching/background_loads.hpp"
#include "engine/seam.hpp"

#include <utility>

namespace tenantry::detail {

namespace {

task<void> go_on(std::unique_ptr<fetch_session> fetch, std::shared_ptr<const any_async_loader> load,
                 background_loads::place mine) {
  while (!fetch->over()) {
    auto one = fetch->async_take_step(*load);
    co_await std::move(one);
  }
  fetch->end_alone();
  fetch.reset();
  load.reset();
  mine.leave();  // the cache may be gone from here on
}

void nobody_waits(const std::exception_ptr&) {}

/// What can leave its caller does. The caller goes on with what is in its place then: a fetch that is over, or waits.
void leave(cache_state& on, std::unique_ptr<fetch_session>& fetch,
           const std::shared_ptr<const any_async_loader>& load) {
  if (fetch->machine.refreshing()) return leave_refreshing(on, *fetch, load);
  auto mine = on.background().enter({fetch->load_over()});
  if (!mine) return fetch->stay();
  auto staying = std::make_unique<fetch_session>(on, fetch->name(), fetcher::outside);
  staying->follow(fetch->hand_over(), fetch->machine);
  std::swap(fetch, staying);
  start(go_on(std::move(staying), load, *std::move(mine)), nobody_waits);
}

}  // namespace

task<looked_up> look_only(cache_state& on, face how, key k) {
  seam::check_not_forked(on.redis());
  fetch_session session{on, std::move(k), fetcher::thread_inside};
  session.begin();
  try {
    while (session.looks()) {
      on.check_breaker();
      session.announce();
      auto sending = send(on, how, session.by(), session.machine.requests());
      answers all = co_await std::move(sending);
      session.looked(std::move(all));
      if (session.step == fetch_step::decode) session.decode();  // which may have to look again
    }
  } catch (const error&) {
    on.count(cache_event::read_failure);
    throw;
  }
  co_return session.end_looking();
}

void leave_refreshing(cache_state& on, fetch_session& fetch, const std::shared_ptr<const any_async_loader>& load) {
  auto anew = std::make_unique<fetch_session>(on, fetch.name(), fetcher::outside);
  anew->begin_refresh(fetch.machine);
  auto mine = on.background().enter_refresh(fetch.name().str(), anew->load_over());
  if (mine) start(go_on(std::move(anew), load, *std::move(mine)), nobody_waits);
  fetch.step = fetch.machine.leave_refreshing();
}

void run(cache_state& on, std::unique_ptr<fetch_session>& fetch, const loading& how) {
  while (!fetch->over()) {
    if (how.anywhere && fetch->can_leave()) {
      leave(on, fetch, how.anywhere);
    } else {
      fetch->take_step(how.here);
    }
  }
}

task<void> async_run(cache_state& on, std::unique_ptr<fetch_session>& fetch,
                     std::shared_ptr<const any_async_loader> load) {
  while (!fetch->over()) {
    if (fetch->can_leave()) {
      leave(on, fetch, load);
    } else {
      auto one = fetch->async_take_step(*load);
      co_await std::move(one);
    }
  }
}

}  // namespace tenantry::detail
