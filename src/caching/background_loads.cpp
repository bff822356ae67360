#include "caching/background_loads.hpp"

namespace tenantry::detail {

std::optional<background_loads::place> background_loads::enter(std::vector<std::stop_source> over) {
  const std::lock_guard held{mutex_};
  if (closed_) return std::nullopt;
  return place{*this, inside_.insert(inside_.end(), {.over = std::move(over), .refreshed = {}})};
}

std::optional<background_loads::place> background_loads::enter_refresh(const std::string& key, std::stop_source over) {
  const std::lock_guard held{mutex_};
  if (closed_ || !refreshing_.insert(key).second) return std::nullopt;
  return place{*this, inside_.insert(inside_.end(), {.over = {std::move(over)}, .refreshed = key})};
}

/// Under the mutex to the end: whoever waits for it destroys all this next.
void background_loads::place::leave() noexcept {
  background_loads* const among = std::exchange(among_, nullptr);
  if (among == nullptr) return;
  const std::lock_guard held{among->mutex_};
  if (!mine_->refreshed.empty()) among->refreshing_.erase(mine_->refreshed);
  among->inside_.erase(mine_);
  among->left_.notify_all();
}

bool background_loads::close(std::optional<time_point> until) {
  std::vector<std::stop_source> over;  // triggered without the mutex: a load may end then
  std::unique_lock held{mutex_};
  closed_ = true;
  for (const entry& each : inside_) over.insert(over.end(), each.over.begin(), each.over.end());
  held.unlock();
  for (const std::stop_source& each : over) each.request_stop();
  held.lock();
  const auto empty = [this] { return inside_.empty(); };
  if (until) return left_.wait_until(held, *until, empty);
  left_.wait(held, empty);
  return true;
}

}  // namespace tenantry::detail
