#pragma once
// Asynchronous calls for tests that do other things while these are under way.

#include "support/errors.hpp"

#include <tenantry/client.hpp>
#include <tenantry/metrics.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

namespace support {

/// A call that was started. Its error is only ever held by one thread, as ThreadSanitizer does not see how the standard
/// library counts those who share one.
template <class T>
class under_way {
 public:
  explicit under_way(tenantry::task<T> call) {
    tenantry::start(std::move(call), [end = end_](std::exception_ptr fault, std::optional<T> value) {
      const std::lock_guard held{end->mutex};
      if (end->there) std::terminate();  // it ended twice
      end->fault = std::move(fault);
      end->value = std::move(value);
      end->there = true;
      end->changed.notify_all();
    });
  }

  [[nodiscard]] bool has_ended() const {
    const std::lock_guard held{end_->mutex};
    return end_->there;
  }
  /// What it gave or threw, once. It has to end within 30 s.
  T take() {
    std::unique_lock held{end_->mutex};
    REQUIRE(end_->changed.wait_for(held, std::chrono::seconds{30}, [this] { return end_->there; }));
    if (end_->fault) std::rethrow_exception(std::exchange(end_->fault, nullptr));
    return *std::exchange(end_->value, std::nullopt);
  }

 private:
  struct outcome {
    std::mutex mutex;
    std::condition_variable changed;
    bool there = false;
    std::exception_ptr fault;
    std::optional<T> value;
  };
  std::shared_ptr<outcome> end_ = std::make_shared<outcome>();
};

template <class T>
under_way<T> started(tenantry::task<T> call) {
  return under_way<T>{std::move(call)};
}
template <class T>
bool has_ended(const under_way<T>& call) {
  return call.has_ended();
}
template <class T>
T result_of(under_way<T>& call) {
  return call.take();
}

/// How a call fails, which it has to.
template <class T>
caught failure_of(under_way<T>& call) {
  return failure_of([&call] { (void)call.take(); });
}
template <class T>
caught failure_of(tenantry::task<T> call) {
  under_way<T> begun{std::move(call)};
  return failure_of(begun);
}

/// What the client has counted for one of its lanes; nothing but zeros before the lane is there.
inline tenantry::lane_metrics lane_of(const tenantry::client& redis, std::string_view name = "async") {
  const tenantry::client_metrics all = redis.metrics();
  const auto found = std::ranges::find(all.lanes, name, &tenantry::lane_metrics::name);
  return found != all.lanes.end() ? *found : tenantry::lane_metrics{};
}

}  // namespace support
