#pragma once
// Entries that have left their near cache, and may be in use still.

#include "caching/near_node.hpp"

#include <cstddef>
#include <utility>

namespace tenantry::detail {

/// A list of them, linked through themselves: adding allocates nothing.
class near_retired {
 public:
  near_retired() noexcept = default;
  near_retired(near_retired&& from) noexcept : first_{std::exchange(from.first_, nullptr)} {}
  near_retired& operator=(near_retired&& from) noexcept {
    std::swap(first_, from.first_);
    return *this;
  }
  ~near_retired() = default;  // empty, or somebody forgot some

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  void push(near_node& node) noexcept { node.older = std::exchange(first_, &node); }
  /// nullptr when there is none.
  near_node* pop() noexcept { return first_ != nullptr ? std::exchange(first_, first_->older) : nullptr; }
  void push_all(near_retired& from) noexcept {
    while (near_node* const each = from.pop()) push(*each);
  }

  /// Destroys those that are not pinned, of the orphans too. Returns the bytes of those of this list. Where there is no
  /// memory to look at the pins nothing is destroyed.
  std::size_t reclaim(void (*destroy)(near_node*) noexcept) noexcept;
  /// Those left become orphans: the next `reclaim` of any list looks at them.
  void abandon(void (*destroy)(near_node*) noexcept) noexcept;

 private:
  near_node* first_ = nullptr;
};

}  // namespace tenantry::detail
