#pragma once
// An entry of a near cache as its lists see it: without the value.

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tenantry::detail {

/// What every entry begins with. Readers look at `hash`, `key_size` and `visited` only; the links belong to the shard,
/// and, when the entry has left the table, to whoever has it in a list of retired ones.
struct near_node {
  static constexpr std::size_t unit = 16;  // of `units`: as malloc rounds

  union {
    near_node* newer;                      // in the order of eviction
    void (*destroy)(near_node*) noexcept;  // of an orphan
  };
  near_node* older;  // and in a list of retired ones the next
  std::uint32_t hash;
  std::uint32_t key_size;
  std::uint32_t units;
  std::atomic<bool> visited;

  [[nodiscard]] std::size_t bytes() const noexcept { return std::size_t{units} * unit; }
  /// Writes only where that changes something: many threads read this line.
  void visit() noexcept {
    if (!visited.load(std::memory_order_relaxed)) visited.store(true, std::memory_order_relaxed);
  }
};

}  // namespace tenantry::detail
