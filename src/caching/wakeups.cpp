#include "caching/wakeups.hpp"

#include <algorithm>
#include <utility>
#include <variant>

namespace tenantry::detail {

wakeups::~wakeups() {
  if (connection_ && seam::forked(redis_)) {
    connection_->abandon();
    static_cast<void>(connection_.release());  // it is the parent's
  }
  if (connection_) push_connection::end(std::move(connection_));
}

std::shared_ptr<wakeups> wakeups::of(const client& redis) {
  return seam::shared_part<wakeups>(redis, [&redis] { return std::make_shared<wakeups>(redis); });
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
  if (!connection_) {
    connection_ = seam::open_push_connection(redis_, {}, [this](push_event& what) { told(what); });
  }
  waiting_[one.channel_].push_back(&one);
  // Where messages arrive already there is no subscription to wait for.
  if (connection_->want(push_kind::channel, one.channel_) != standing::pending) one.wake();
}

void wakeups::leave(waiter& one) noexcept {
  const std::lock_guard held{mutex_};
  const auto found = waiting_.find(one.channel_);
  std::erase(found->second, &one);
  if (!found->second.empty()) return;
  waiting_.erase(found);
  connection_->unwant(push_kind::channel, one.channel_);
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
