#pragma once
// One load per key in a process: whoever comes later waits for the result of the first.

#include <tenantry/detail/wait_graph.hpp>

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

namespace tenantry::detail {

/// Flights by key. A result is delivered to all who joined before it came; who comes later starts a new flight.
template <class Result>
class single_flight {
 public:
  class flight : public led_load {
   public:
    /// Waits for the leader. Throws what the leader's loader threw.
    Result wait() {
      wait_until_landed();
      if (fault_) std::rethrow_exception(fault_);
      return *result_;
    }
    /// Waits for the leader, whatever comes of its load.
    void wait_until_landed() {
      std::unique_lock held{mutex_};
      landed_.wait(held, [this] { return result_.has_value() || fault_ != nullptr; });
    }

   private:
    friend class single_flight;
    void land(std::optional<Result> result, std::exception_ptr fault) {
      this->finish();
      {
        const std::lock_guard held{mutex_};
        result_ = std::move(result);
        fault_ = std::move(fault);
        // What is no C++ exception, such as the cancellation of the leader's thread, has nothing to rethrow.
        if (!result_ && !fault_) fault_ = std::make_exception_ptr(std::runtime_error{"the loader's thread ended"});
      }
      landed_.notify_all();
    }

    std::mutex mutex_;
    std::condition_variable landed_;
    std::optional<Result> result_;  // this and the next do not change any more once one of them is set
    std::exception_ptr fault_;
    bool storing_ = false;  // under the mutex of the flights
  };

  struct boarding {
    std::shared_ptr<flight> joined;
    bool leads = false;
  };

  /// The flight of this key; leads a new one when there is none. The leader has to call `land`.
  boarding join(const std::string& key) {
    const std::lock_guard held{mutex_};
    auto& entry = flights_[key];
    if (entry) return {entry, false};
    try {
      entry = std::make_shared<flight>();
      entry->lead();
    } catch (...) {
      flights_.erase(key);
      throw;
    }
    return {entry, true};
  }

  /// Asks whether the leader may store its result: not when its key was detached. From a yes on, `detach` tells of it.
  [[nodiscard]] bool begin_store(const std::string& key, const std::shared_ptr<flight>& mine) {
    const std::lock_guard held{mutex_};
    const auto found = flights_.find(key);
    mine->storing_ = found != flights_.end() && found->second == mine;
    return mine->storing_;
  }

  /// Ends a flight. Never throws.
  void land(const std::string& key, const std::shared_ptr<flight>& mine, std::optional<Result> result,
            std::exception_ptr fault) noexcept {
    {
      const std::lock_guard held{mutex_};
      const auto found = flights_.find(key);
      if (found != flights_.end() && found->second == mine) flights_.erase(found);
    }
    mine->land(std::move(result), std::move(fault));
  }

  /// Nobody joins the flight of this key from now on, and its result is not stored; those who joined still get it. A
  /// flight that is being stored already is returned: what it writes can only be undone after it has landed.
  std::shared_ptr<flight> detach(const std::string& key) {
    const std::lock_guard held{mutex_};
    const auto found = flights_.find(key);
    if (found == flights_.end()) return nullptr;
    const std::shared_ptr<flight> detached = std::move(found->second);
    flights_.erase(found);
    return detached->storing_ ? detached : nullptr;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<flight>> flights_;
};

}  // namespace tenantry::detail
