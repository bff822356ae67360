#pragma once
// Threads that lose the processor wherever they let go of a lock or are about to take one: there roles are handed on
// and wake-ups can be lost, and chance preempts a thread there too rarely to test it.
// Only for programs of their own: preemption.cpp replaces functions of the C library.

#include <chrono>
#include <cstdint>

namespace support {

/// Of 10000 times that an enlisted thread locks or unlocks a mutex.
struct preemption_rates {
  std::uint64_t yields = 200;
  std::uint64_t naps = 100;
  std::chrono::microseconds shortest_nap{50};
  std::chrono::microseconds longest_nap{500};
};

/// Preempts the enlisted threads while it lives. One at a time, which must outlive those threads' work.
class preemption {
 public:
  explicit preemption(const preemption_rates& rates = {});
  preemption(const preemption&) = delete;
  preemption& operator=(const preemption&) = delete;
  ~preemption();

  /// How often it happened in the program so far.
  [[nodiscard]] static std::uint64_t times() noexcept;

 private:
  const preemption_rates rates_;
};

/// The calling thread takes part, for as long as it lives.
void enlist_this_thread(std::uint64_t seed) noexcept;

}  // namespace support
