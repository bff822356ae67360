#pragma once
// Alarms that are not in the log yet, in the order in which they came.

#include "schemas.hpp"

#include <tenantry/tenant.hpp>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <iterator>
#include <map>
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

  void push(const tenantry::tenant_id& tenant, alarm one) {
    waiting_[tenant].push_back(std::move(one));
    ++size_;
  }

  /// Calls `append(tenant, alarm)` for one after another, those of a tenant in order.
  template <class Append>
  void flush(const Append& append) {
    for (auto at = waiting_.begin(); at != waiting_.end();) {
      auto& [tenant, all] = *at;
      outcome last = outcome::done;
      while (!all.empty() && last == outcome::done) {
        last = append(tenant, std::as_const(all.front()));
        if (last == outcome::done) {
          all.pop_front();
          --size_;
        }
      }
      at = all.empty() ? waiting_.erase(at) : std::next(at);
      if (last == outcome::all_later) return;
    }
  }

  /// Drops the last ones of those who have most, until there are at most so many. Returns how many it dropped.
  std::size_t trim(std::size_t at_most) {
    const std::size_t before = size_;
    while (size_ > at_most) {
      const auto most = std::ranges::max_element(waiting_, {}, [](const auto& each) { return each.second.size(); });
      most->second.pop_back();
      --size_;
      if (most->second.empty()) waiting_.erase(most);
    }
    return before - size_;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  std::size_t size_ = 0;
  std::map<tenantry::tenant_id, std::deque<alarm>> waiting_;
};

}  // namespace gateway
