#pragma once
// Connections that one caller at a time has for itself, kept for the next one.

#include "engine/exchange.hpp"
#include "engine/failures.hpp"
#include "engine/fork_safe_list.hpp"
#include "net/wait.hpp"

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// How many exclusive connections a client has given away, of all kinds.
class exclusive_count {
 public:
  explicit exclusive_count(std::size_t most) noexcept : most_{most} {}

  [[nodiscard]] bool take() noexcept {
    std::size_t taken = taken_.load(std::memory_order_relaxed);
    while (taken < most_) {
      if (taken_.compare_exchange_weak(taken, taken + 1, std::memory_order_relaxed)) return true;
    }
    return false;
  }
  void give_back() noexcept { taken_.fetch_sub(1, std::memory_order_relaxed); }
  [[nodiscard]] std::size_t most() const noexcept { return most_; }

 private:
  const std::size_t most_;
  std::atomic<std::size_t> taken_ = 0;
};

/// `Connection` is a blocking_driver or an async_lane.
///
/// Threads: all members from any thread.
template <class Connection>
class exclusive_pool {
 public:
  using make_connection = std::function<std::shared_ptr<Connection>()>;

  exclusive_pool(exclusive_count& count, make_connection make) : count_{count}, make_{std::move(make)} {}

  /// A connection, opened by its first call. Nothing, and why, when the client is closed or all are taken.
  std::shared_ptr<Connection> take(failure& why) {
    const std::lock_guard lock{mutex_};
    if (closed_) {
      why = closed_before();
      return nullptr;
    }
    if (!count_.take()) {
      why = all_exclusive_taken(count_.most());
      return nullptr;
    }
    try {
      taken_.reserve(taken_.size() + 1);
      std::shared_ptr<Connection> one;
      while (!idle_.empty() && !one) {
        one = std::move(idle_.back());
        idle_.pop_back();
        if (!one->alive()) one.reset();
      }
      if (!one) one = made();
      taken_.push_back(one);
      idle_.reserve(idle_.size() + taken_.size());
      return one;
    } catch (...) {
      count_.give_back();
      throw;
    }
  }

  /// A clean one is used again; any other is closed.
  void give_back(std::shared_ptr<Connection> one, bool clean) noexcept {
    const std::lock_guard lock{mutex_};
    count_.give_back();
    std::erase(taken_, one);
    if (clean && !closed_) {
      idle_.push_back(std::move(one));
    } else {
      one->begin_close(net::clock::now());
    }
  }

  /// As the connections' own.
  void begin_close(net::clock::time_point deadline) {
    const std::lock_guard lock{mutex_};
    closed_ = true;
    idle_.clear();
    for (const auto& each : taken_) each->begin_close(deadline);
  }
  void wait_closed() {
    for (const auto& each : taken()) each->wait_closed();
  }
  void end_calls() {
    for (const auto& each : taken()) each->end_calls();
  }
  void abandon() noexcept {
    all_.for_each([](Connection& each) { each.abandon(); });
  }

 private:
  /// In the list as long as it lives.
  std::shared_ptr<Connection> made() {
    auto place = std::make_unique<typename fork_safe_list<Connection>::place>(all_);
    std::shared_ptr<Connection> one = make_();
    Connection* const raw = one.get();
    place->set(*raw);
    return {raw, [one = std::move(one), place = std::shared_ptr{std::move(place)}](Connection*) {}};
  }

  std::vector<std::shared_ptr<Connection>> taken() {
    const std::lock_guard lock{mutex_};
    return taken_;
  }

  exclusive_count& count_;
  const make_connection make_;
  fork_safe_list<Connection> all_;
  std::mutex mutex_;
  bool closed_ = false;
  std::vector<std::shared_ptr<Connection>> idle_;
  std::vector<std::shared_ptr<Connection>> taken_;
};

}  // namespace tenantry::detail
