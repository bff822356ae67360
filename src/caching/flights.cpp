#include "caching/flights.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace tenantry::detail {

bool flight::wait_until(time_point limit) {
  std::unique_lock held{mutex_};
  const auto ended = [this] { return ended_; };
  if (limit == time_point::max()) {
    landed_.wait(held, ended);
    return true;
  }
  return landed_.wait_until(held, limit, ended);
}

void flight::at_end(std::stop_source wake) {
  {
    const std::lock_guard held{mutex_};
    if (!ended_) {
      waiters_.push_back(std::move(wake));
      return;
    }
  }
  wake.request_stop();
}

bool flight::ended() const {
  const std::lock_guard held{mutex_};
  return ended_;
}

void flight::land(std::optional<fetched> result, std::exception_ptr fault) {
  finish();
  std::vector<std::stop_source> waiting;
  {
    const std::lock_guard held{mutex_};
    result_ = std::move(result);
    fault_ = std::move(fault);
    // What is no C++ exception, such as the cancellation of the leader's thread, has nothing to rethrow.
    if (!result_ && !fault_) fault_ = std::make_exception_ptr(std::runtime_error{"the loader's thread ended"});
    ended_ = true;
    waiting.swap(waiters_);
  }
  landed_.notify_all();
  for (const std::stop_source& each : waiting) each.request_stop();
}

flights::seat flights::board(const std::string& key, std::string_view identity, bool may_lead) {
  const std::lock_guard held{mutex_};
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    const auto same = std::ranges::find(found->second, identity,
                                        [](const auto& each) -> const std::string& { return each->identity(); });
    if (same != found->second.end()) return {.joined = *same};
  }
  if (!may_lead) return {};
  return {.joined = add(key, identity), .leads = true};
}

std::shared_ptr<flight> flights::add(const std::string& key, std::string_view identity) {
  auto mine = std::make_shared<flight>(identity);
  by_key_[key].push_back(mine);
  mine->hand_over();
  return mine;
}

std::shared_ptr<flight> flights::announce(const std::string& key, std::string_view identity) {
  const std::lock_guard held{mutex_};
  return add(key, identity);
}

void flights::remove(const std::string& key, const std::shared_ptr<flight>& mine) noexcept {
  const std::lock_guard held{mutex_};
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return;
  std::erase(found->second, mine);
  if (found->second.empty()) by_key_.erase(found);
}

void flights::withdraw(const std::string& key, const std::shared_ptr<flight>& mine) noexcept {
  remove(key, mine);
  mine->finish();
}

void flights::land(const std::string& key, const std::shared_ptr<flight>& mine, std::optional<fetched> result,
                   std::exception_ptr fault) noexcept {
  remove(key, mine);
  mine->land(std::move(result), std::move(fault));
}

}  // namespace tenantry::detail
