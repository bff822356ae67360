#include "caching/wakeups.hpp"

#include <algorithm>
#include <utility>
#include <variant>

namespace tenantry::detail {

std::shared_ptr<wakeups> wakeups::of(const client& redis) {
  auto pushes = cache_pushes::of(redis);
  return seam::shared_part<wakeups>(redis, [&] { return std::make_shared<wakeups>(redis, std::move(pushes)); });
}

wakeups::waiter::waiter(std::shared_ptr<wakeups> hub, std::string channel)
    : hub_{std::move(hub)}, channel_{std::move(channel)} {
  hub_->join(*this);
}

wakeups::waiter::~waiter() { hub_->leave(*this); }

bool wakeups::waiter::wait_until(std::chrono::steady_clock::time_point limit) {
  std::unique_lock held{mutex_};
  const bool woken = changed_.wait_until(held, limit, [this] { return woken_; });
  woken_ = false;
  return woken;
}

std::stop_token wakeups::waiter::next_wakeup() {
  const std::lock_guard held{mutex_};
  next_ = std::stop_source{};
  if (std::exchange(woken_, false)) next_.request_stop();
  return next_.get_token();
}

void wakeups::waiter::wake() {
  std::stop_source next;
  {
    const std::lock_guard held{mutex_};
    woken_ = true;
    next = next_;
  }
  changed_.notify_all();
  next.request_stop();
}

void wakeups::join(waiter& one) {
  const std::lock_guard held{mutex_};
  if (!joined_) joined_.emplace(*pushes_, *this, cache_pushes::hears::wakeups);
  waiting_[one.channel_].push_back(&one);
  // Where messages arrive already there is no subscription to wait for.
  if (pushes_->connection().want(push_kind::channel, one.channel_) != standing::pending) one.wake();
}

void wakeups::leave(waiter& one) noexcept {
  if (seam::forked(redis_)) return;  // a thread of the parent may have the lock
  const std::lock_guard held{mutex_};
  const auto found = waiting_.find(one.channel_);
  std::erase(found->second, &one);
  if (!found->second.empty()) return;
  waiting_.erase(found);
  pushes_->connection().unwant(push_kind::channel, one.channel_);
}

void wakeups::told(const push_event& what) {
  if (const auto* message = std::get_if<push::message>(&what)) return wake(message->channel);
  if (const auto* begins = std::get_if<push::confirmed>(&what)) return wake(begins->name);
  if (const auto* refused = std::get_if<push::refused>(&what)) return wake(refused->name);
  if (std::holds_alternative<push::ended>(what)) wake_all();
}

void wakeups::wake(const std::string& channel) {
  const std::lock_guard held{mutex_};
  const auto found = waiting_.find(channel);
  if (found == waiting_.end()) return;
  for (waiter* each : found->second) each->wake();
}

void wakeups::wake_all() {
  const std::lock_guard held{mutex_};
  for (const auto& [channel, all] : waiting_) {
    for (waiter* each : all) each->wake();
  }
}

}  // namespace tenantry::detail
