#include "limiting/wait_lines.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace tenantry::detail {

namespace {

/// A tenant has no zero byte.
std::string text_of(const limited_view& name) {
  std::string text{name.tenant};
  text += '\0';
  text += name.path;
  return text;
}

}  // namespace

wait_lines::place::place(wait_lines& lines, const limited_view& name) : lines_{lines}, name_{text_of(name)} {
  const std::lock_guard held{lines_.mutex_};
  lines_.by_name_[name_].push_back(this);
}

wait_lines::place::~place() {
  std::stop_source next{std::nostopstate};
  {
    const std::lock_guard held{lines_.mutex_};
    const auto found = lines_.by_name_.find(name_);
    std::deque<place*>& line = found->second;
    const bool first = line.front() == this;
    std::erase(line, this);
    if (line.empty()) {
      lines_.by_name_.erase(found);
    } else if (first) {
      next = line.front()->wake();
    }
  }
  next.request_stop();
}

bool wait_lines::place::first() const {
  const std::lock_guard held{lines_.mutex_};
  return lines_.by_name_.find(name_)->second.front() == this;
}

/// With the lock held: the place may be gone as soon as it is not. What is returned is to be triggered without it.
std::stop_source wait_lines::place::wake() {
  woken_ = true;
  changed_.notify_all();
  return wake_;
}

void wait_lines::place::wait_until(time_point limit, const std::stop_token& stop) {
  std::unique_lock held{lines_.mutex_};
  changed_.wait_until(held, stop, limit, [this] { return woken_; });
  woken_ = false;
}

std::stop_source wait_lines::place::next_wakeup() {
  const std::lock_guard held{lines_.mutex_};
  wake_ = std::stop_source{};
  if (std::exchange(woken_, false)) wake_.request_stop();
  return wake_;
}

void wait_lines::stir(const limited_view& name) {
  std::stop_source first{std::nostopstate};
  {
    const std::lock_guard held{mutex_};
    if (by_name_.empty()) return;
    const auto found = by_name_.find(text_of(name));
    if (found != by_name_.end()) first = found->second.front()->wake();
  }
  first.request_stop();
}

void wait_lines::stir_all() {
  std::vector<std::stop_source> all;
  {
    const std::lock_guard held{mutex_};
    for (auto& [name, line] : by_name_) all.push_back(line.front()->wake());
  }
  for (const std::stop_source& each : all) each.request_stop();
}

}  // namespace tenantry::detail
