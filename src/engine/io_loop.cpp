#include "engine/io_loop.hpp"

#include "engine/own_thread.hpp"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

namespace tenantry::detail {

void io_loop::add(io_task& task) {
  const std::lock_guard held{mutex_};
  if (!thread_.joinable()) thread_ = start_thread([this] { work(); });
  // What ends must not need memory.
  added_.reserve(tasks_ + 1);
  removed_.reserve(tasks_ + 1);
  retired_.reserve(tasks_ + 1);
  added_.push_back(&task);
  ++tasks_;
  changed_ = true;
  wakeup_.set();
}

void io_loop::remove(io_task& task) {
  std::unique_lock held{mutex_};
  if (!thread_.joinable()) return;
  removed_.push_back(&task);
  changed_ = true;
  wakeup_.set();
  removal_done_.wait(held, [&] { return std::ranges::find(removed_, &task) == removed_.end(); });
}

void io_loop::retire(std::unique_ptr<io_task> task) noexcept {
  const std::lock_guard held{mutex_};
  if (ended_) return;
  retired_.push_back(std::move(task));
  changed_ = true;
  wakeup_.set();
}

void io_loop::stop() {
  stopping_ = true;
  wakeup_.set();
  if (thread_.joinable()) thread_.join();
}

void io_loop::work() noexcept {
  thread_id_ = std::this_thread::get_id();
  while (!stopping_) {
    if (changed_) take_changes();
    for (entry& each : entries_) each.wanted = each.task->run(each.events);
    wait();
  }
  {
    const std::lock_guard held{mutex_};
    ended_ = true;
  }
  take_changes();
}

void io_loop::take_changes() noexcept {
  std::vector<std::unique_ptr<io_task>> leaving;
  const std::lock_guard held{mutex_};
  changed_ = false;
  for (io_task* task : added_) entries_.push_back({.task = task, .wanted = {}});
  added_.clear();
  const std::size_t before = entries_.size();
  std::erase_if(entries_, [this](const entry& each) {
    return std::ranges::find(removed_, each.task) != removed_.end() ||
           std::ranges::find(retired_, each.task, &std::unique_ptr<io_task>::get) != retired_.end();
  });
  tasks_ -= before - entries_.size();
  removed_.clear();
  removal_done_.notify_all();
  leaving.swap(retired_);
  retired_.reserve(leaving.capacity());
}

void io_loop::wait() {
  polled_.clear();
  polled_.push_back({.fd = wakeup_.fd(), .events = POLLIN, .revents = 0});
  auto wake_at = net::clock::time_point::max();
  for (const entry& each : entries_) {
    polled_.push_back({.fd = each.wanted.fd, .events = each.wanted.events, .revents = 0});
    wake_at = std::min(wake_at, each.wanted.wake_at);
  }

  // Whoever brings work looks at this flag after it, and this thread for work after the flag.
  sleeping_ = true;
  timespec timeout{};
  const bool busy = std::ranges::any_of(entries_, [](const entry& each) { return each.task->has_work(); });
  const bool endless = !busy && wake_at == net::clock::time_point::max();
  if (!busy && !endless) {
    const auto left = std::max(wake_at - net::clock::now(), net::clock::duration::zero());
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    timeout.tv_sec = static_cast<std::time_t>(seconds.count());
    timeout.tv_nsec = static_cast<long>(std::chrono::nanoseconds{left - seconds}.count());
  }
  ::ppoll(polled_.data(), polled_.size(), endless ? nullptr : &timeout, nullptr);
  sleeping_ = false;
  if (polled_[0].revents != 0) wakeup_.clear();
  for (std::size_t i = 0; i < entries_.size(); ++i) entries_[i].events = polled_[i + 1].revents;
}

}  // namespace tenantry::detail
