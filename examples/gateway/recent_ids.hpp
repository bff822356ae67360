#pragma once
// The last ids that were seen.

#include <cstddef>
#include <deque>
#include <string>
#include <unordered_set>
#include <utility>

namespace gateway {

class recent_ids {
 public:
  explicit recent_ids(std::size_t at_most) : at_most_{at_most} {}

  /// False where it is among them already.
  bool insert(std::string id) {
    if (!known_.insert(id).second) return false;
    order_.push_back(std::move(id));
    if (order_.size() > at_most_) {
      known_.erase(order_.front());
      order_.pop_front();
    }
    return true;
  }

 private:
  std::size_t at_most_;
  std::unordered_set<std::string> known_;
  std::deque<std::string> order_;
};

}  // namespace gateway
