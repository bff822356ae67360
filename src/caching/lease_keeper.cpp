#include "caching/lease_keeper.hpp"

#include "caching/request.hpp"
#include "caching/scripts.hpp"
#include "engine/seam.hpp"

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

namespace tenantry::detail {

std::shared_ptr<lease_keeper> lease_keeper::of(const client& redis) {
  return seam::shared_part<lease_keeper>(redis, [&redis] { return std::make_shared<lease_keeper>(redis); });
}

lease_keeper::hold::hold(std::shared_ptr<lease_keeper> keeper, const std::string& name, const std::string& lease,
                         std::chrono::milliseconds life, time_point until, std::stop_source over)
    : keeper_{std::move(keeper)} {
  const auto now = std::chrono::steady_clock::now();
  bool idle = false;
  {
    const std::lock_guard held{keeper_->mutex_};
    mine_ = keeper_->kept_.insert(keeper_->kept_.end(), {name, lease, life, until, std::move(over), now + life / 3});
    idle = !std::exchange(keeper_->working_, true);
  }
  if (idle) start(work(keeper_), [](const std::exception_ptr&) {});
}

lease_keeper::hold::~hold() {
  const std::lock_guard held{keeper_->mutex_};
  keeper_->kept_.erase(mine_);
}

std::vector<command> lease_keeper::due(time_point now, time_point& next) {
  std::vector<command> commands;
  std::vector<std::stop_source> over;  // triggered without the mutex: a loader may end then
  {
    const std::lock_guard held{mutex_};
    look(now, next, commands, over);
  }
  for (const std::stop_source& each : over) each.request_stop();
  return commands;
}

void lease_keeper::look(time_point now, time_point& next, std::vector<command>& commands,
                        std::vector<std::stop_source>& over) {
  next = time_point::max();
  for (hold::entry& each : kept_) {
    if (now >= each.until) {
      if (!each.over.stop_requested()) over.push_back(each.over);
      continue;
    }
    if (now >= each.next) {
      commands.push_back(
          request::run(scripts::renew(), {each.name}, {each.lease, std::to_string(each.life.count())}).encoded(true));
      each.next = now + each.life / 3;
    }
    next = std::min({next, each.next, each.until});
  }
  if (next == time_point::max()) working_ = false;
}

/// After a pause that the client's end cut short nothing of the client is used any more.
task<void> lease_keeper::work(std::shared_ptr<lease_keeper> self) {
  time_point next;
  static_cast<void>(self->due(std::chrono::steady_clock::now(), next));
  while (next != time_point::max()) {
    const std::stop_token never;
    const time_point until = next;
    const bool ended = co_await seam::pause(self->redis_, until, never);
    if (!ended) co_return;
    std::vector<command> commands = self->due(std::chrono::steady_clock::now(), next);
    if (commands.empty()) continue;
    try {
      co_await self->redis_.async_execute_all(std::move(commands));
    } catch (const error&) {  // NOLINT(bugprone-empty-catch): the next one may do, or the lease is lost
    }
  }
}

}  // namespace tenantry::detail
