#pragma once
// Which entry of a near cache is evicted next.

#include "caching/near_node.hpp"

#include <atomic>
#include <cstddef>

namespace tenantry::detail {

/// SIEVE: a queue whose entries keep their places. A hand moves from the oldest to the newest, takes the mark from
/// those that were visited since it passed, and stops at the first that was not. So a hit moves nothing, and a new
/// entry that is never hit leaves after one turn of the hand, whatever the old ones are.
///
/// Source: Zhang et al., SIEVE is Simpler than LRU (NSDI 2024).
/// Threads: one at a time; entries may be visited meanwhile.
class near_sieve {
 public:
  /// As the newest.
  void push(near_node& node) noexcept {
    node.newer = nullptr;
    node.older = newest_;
    (newest_ != nullptr ? newest_->newer : oldest_) = &node;
    newest_ = &node;
    ++size_;
  }

  void remove(near_node& node) noexcept {
    if (hand_ == &node) hand_ = node.newer;
    (node.newer != nullptr ? node.newer->older : newest_) = node.older;
    (node.older != nullptr ? node.older->newer : oldest_) = node.newer;
    --size_;
  }

  /// The entry to be removed next; nullptr when there is none. One of which `dead` is true counts as not visited. Ends
  /// after one turn, also when others visit all entries as fast as the hand moves.
  template <class Dead>
  [[nodiscard]] near_node* advance(Dead&& dead) {
    if (hand_ == nullptr) hand_ = oldest_;
    for (std::size_t left = size_; left > 0; --left) {
      if (!hand_->visited.load(std::memory_order_relaxed) || dead(*hand_)) break;
      hand_->visited.store(false, std::memory_order_relaxed);
      hand_ = hand_->newer != nullptr ? hand_->newer : oldest_;
    }
    return hand_;
  }

  [[nodiscard]] near_node* oldest() const noexcept { return oldest_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  near_node* newest_ = nullptr;
  near_node* oldest_ = nullptr;
  near_node* hand_ = nullptr;  // nullptr: begins with the oldest
  std::size_t size_ = 0;
};

}  // namespace tenantry::detail
