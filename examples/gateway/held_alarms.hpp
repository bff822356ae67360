#pragma once
// Alarms that are not in the log yet, in the order in which they came.

#include "schemas.hpp"

#include <tenantry/tenant.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

namespace gateway {

/// A queue for each tenant, so that one whose log refuses (because its key holds something else, say) holds up nobody.
class held_alarms {
 public:
  enum class outcome : unsigned char {
    done,          ///< the next one, please
    tenant_later,  ///< this one again later, and with it all of its tenant
    all_later,     ///< nobody's alarm can be appended now
  };

  using time_point = std::chrono::steady_clock::time_point;

  void push(const tenantry::tenant_id& tenant, alarm one) {
    waiting_[tenant].alarms.push_back(std::move(one));
    ++size_;
  }

  /// Calls `append(tenant, alarm)` for one after another, those of a tenant in order, until `until`: then the next call
  /// goes on with the next tenant. One that is to come later is left out before `later`.
  template <class Append>
  void flush(time_point now, time_point later, time_point until, const Append& append) {
    auto at = last_ ? waiting_.upper_bound(*last_) : waiting_.begin();
    for (std::size_t tenants = waiting_.size(); tenants > 0; --tenants) {
      if (at == waiting_.end()) at = waiting_.begin();
      auto& [tenant, held] = *at;
      outcome last = held.not_before <= now ? outcome::done : outcome::tenant_later;
      bool in_time = true;
      while (!held.alarms.empty() && last == outcome::done && in_time) {
        last = append(tenant, std::as_const(held.alarms.front()));
        if (last == outcome::done) {
          held.alarms.pop_front();
          --size_;
        } else if (last == outcome::tenant_later) {
          held.not_before = later;
        }
        in_time = std::chrono::steady_clock::now() < until;
      }
      last_ = tenant;
      at = held.alarms.empty() ? waiting_.erase(at) : std::next(at);
      if (last == outcome::all_later || !in_time) return;
    }
  }

  /// How many alarms `flush` would begin with.
  [[nodiscard]] std::size_t ready(time_point now) const {
    std::size_t number = 0;
    for (const auto& [tenant, held] : waiting_) number += held.not_before <= now ? held.alarms.size() : 0;
    return number;
  }
  /// When `flush` has something to do. Nothing where nothing is held.
  [[nodiscard]] std::optional<time_point> due() const {
    if (waiting_.empty()) return std::nullopt;
    const auto not_before = [](const auto& each) { return each.second.not_before; };
    return not_before(*std::ranges::min_element(waiting_, {}, not_before));
  }

  /// Drops the last ones of those who have most, until there are at most so many. Returns how many it dropped.
  std::size_t trim(std::size_t at_most) {
    const std::size_t before = size_;
    while (size_ > at_most) {
      const auto most =
          std::ranges::max_element(waiting_, {}, [](const auto& each) { return each.second.alarms.size(); });
      most->second.alarms.pop_back();
      --size_;
      if (most->second.alarms.empty()) waiting_.erase(most);
    }
    return before - size_;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  struct queue {
    std::deque<alarm> alarms;  // never empty
    time_point not_before{};
  };

  std::size_t size_ = 0;
  std::map<tenantry::tenant_id, queue> waiting_;
  std::optional<tenantry::tenant_id> last_;  // whose turn it was
};

}  // namespace gateway
