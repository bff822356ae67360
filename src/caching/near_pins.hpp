#pragma once
// Which entries of the near caches of this process are in use (hazard pointers).

#include <tenantry/detail/near_pin.hpp>

#include <atomic>
#include <cstddef>
#include <vector>

namespace tenantry::detail {

/// Slots are in blocks of 16, one block per thread, so that pinning touches no memory that another thread writes. A
/// block is never freed: where its thread has ended a later one uses it, also when some of its slots are still set.
///
/// Whoever reads a shared pointer sets a free slot to it (seq_cst) and then reads the shared pointer once more
/// (seq_cst): where it is the same, what it points to stays. Whoever replaces the shared pointer (seq_cst) and calls
/// `collect` afterwards may destroy what it replaced and did not collect.
///
/// Not promised: that `collect` gives what is pinned while it runs.
///
/// Cost: `free_slot` looks at one slot where that is free, and at 16 at most. There are no more blocks than threads and
/// an eighth of the pins together, each at its highest so far.
/// Source: Michael, Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects (2004).
/// Threads: all members from any thread, also while it ends, and in destructors of static objects.
class near_pins {
 public:
  static constexpr std::size_t per_thread = 16;

  /// One that only the calling thread may set; nullptr when all are in use, or there is no memory for any. It is taken
  /// by setting it, and until then found again.
  [[nodiscard]] static near_pin::slot* free_slot() noexcept {
    near_pin::slot* const likely = hint;
    // Acquires what the thread did that gave it back, for whoever collects what will stand here.
    if (likely != nullptr && likely->load(std::memory_order_acquire) == nullptr) return likely;
    return search();
  }

  /// All that stands in any slot, sorted.
  static void collect(std::vector<const void*>& in_use);

 private:
  static near_pin::slot* search() noexcept;

  static inline constinit thread_local near_pin::slot* hint = nullptr;  // in the block of this thread
};

}  // namespace tenantry::detail
