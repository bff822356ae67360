#include "engine/exclusive_pool.hpp"

#include "engine/failures.hpp"

#include <utility>

namespace tenantry::detail {

std::shared_ptr<blocking_driver> exclusive_pool::take(failure& why) {
  const std::lock_guard lock{mutex_};
  if (closed_) {
    why = closed_before();
    return nullptr;
  }
  if (taken_.size() >= options_.bounds.exclusive_connections) {
    why = all_exclusive_taken(taken_.size());
    return nullptr;
  }
  taken_.reserve(taken_.size() + 1);
  std::shared_ptr<blocking_driver> one;
  while (!idle_.empty() && !one) {
    one = std::move(idle_.back());
    idle_.pop_back();
    if (!one->alive()) one.reset();
  }
  if (!one) one = std::make_shared<blocking_driver>(options_, ownership::exclusive, "exclusive");
  taken_.push_back(one);
  idle_.reserve(idle_.size() + taken_.size());
  return one;
}

void exclusive_pool::give_back(std::shared_ptr<blocking_driver> one, bool clean) noexcept {
  const std::lock_guard lock{mutex_};
  std::erase(taken_, one);
  if (clean && !closed_) idle_.push_back(std::move(one));
}

void exclusive_pool::begin_close() {
  const std::lock_guard lock{mutex_};
  closed_ = true;
  idle_.clear();
  for (const auto& each : taken_) each->begin_close();
}

void exclusive_pool::close(net::clock::time_point deadline) {
  std::vector<std::shared_ptr<blocking_driver>> open;
  {
    const std::lock_guard lock{mutex_};
    open = taken_;
  }
  for (const auto& each : open) each->close(deadline);
}

void exclusive_pool::abandon() noexcept {
  for (const auto& each : idle_) each->abandon();
  for (const auto& each : taken_) each->abandon();
}

}  // namespace tenantry::detail
