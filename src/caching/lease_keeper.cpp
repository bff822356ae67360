#include "caching/lease_keeper.hpp"

#include "caching/request.hpp"
#include "caching/scripts.hpp"
#include "engine/seam.hpp"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

namespace tenantry::detail {

std::shared_ptr<lease_keeper> lease_keeper::of(const client& redis) {
  return seam::shared_part<lease_keeper>(redis, [&redis] { return std::make_shared<lease_keeper>(redis); });
}

lease_keeper::hold::hold(std::shared_ptr<lease_keeper> keeper, const std::string& name, const std::string& lease,
                         std::chrono::milliseconds life, time_point until, std::stop_source over)
    : keeper_{std::move(keeper)} {
  const auto first = std::chrono::steady_clock::now() + life / 3;
  bool idle = false;
  std::stop_source sooner{std::nostopstate};
  {
    const std::lock_guard held{keeper_->mutex_};
    mine_ = keeper_->kept_.insert(keeper_->kept_.end(), {name, lease, life, until, std::move(over), first});
    idle = !std::exchange(keeper_->working_, true);
    if (!idle && std::min(first, until) < keeper_->looks_at_) sooner = keeper_->sooner_;
  }
  if (idle) keeper_->begin();
  sooner.request_stop();
}

lease_keeper::hold::~hold() {
  const std::lock_guard held{keeper_->mutex_};
  keeper_->kept_.erase(mine_);
}

void lease_keeper::begin() noexcept {
  try {
    start(work(shared_from_this()), [self = shared_from_this()](const std::exception_ptr& fault) {
      if (fault) self->stopped();
    });
  } catch (...) {
    stopped();
  }
}

/// Not by its own choice: there is no thread, or no memory.
void lease_keeper::stopped() noexcept {
  const std::lock_guard held{mutex_};
  working_ = false;
}

std::vector<command> lease_keeper::due(time_point now, time_point& next, std::vector<std::stop_source>& over) {
  std::vector<command> commands;
  const std::lock_guard held{mutex_};
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
  if (next == time_point::max()) {
    working_ = false;
  } else if (commands.empty()) {
    sooner_ = std::stop_source{};
    looks_at_ = next;
  }
  return commands;
}

task<void> lease_keeper::tell(const client& redis, std::vector<std::stop_source> over) {
  auto handing_over = seam::pause(redis, std::chrono::steady_clock::now(), {});
  (void)co_await std::move(handing_over);
  for (const std::stop_source& each : over) each.request_stop();
}

/// On the I/O thread; once the client is closed, and may be gone, nothing of it is used any more.
task<void> lease_keeper::work(std::shared_ptr<lease_keeper> self) {
  for (;;) {
    time_point next;
    std::vector<std::stop_source> over;
    std::vector<command> commands = self->due(std::chrono::steady_clock::now(), next, over);
    if (!over.empty()) start(tell(self->redis_, std::move(over)), [](const std::exception_ptr&) {});
    if (next == time_point::max()) co_return;
    if (commands.empty()) {
      std::stop_token sooner;
      {
        const std::lock_guard held{self->mutex_};
        sooner = self->sooner_.get_token();
      }
      auto pausing = seam::pause_apart(self->redis_, next, std::move(sooner));
      const bool open = co_await std::move(pausing);
      if (!open) co_return;
      const std::lock_guard held{self->mutex_};
      self->looks_at_ = time_point::max();
      continue;
    }
    bool closed = false;
    try {
      auto sending = seam::execute_apart(self->redis_, std::move(commands));
      const std::vector<reply> renewed = co_await std::move(sending);
    } catch (const error& why) {
      closed = why.code() == errc::closed;  // else the next one may do, or the lease is lost
    }
    if (closed) co_return;
  }
}

}  // namespace tenantry::detail
