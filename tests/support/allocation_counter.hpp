#pragma once
// Counts the allocations of one thread, to hold the library to the costs that its headers promise.

#include <cstddef>

namespace support {

/// Counts what its thread allocates by operator new while it lives.
///
/// Link allocation_counter.cpp, which replaces the global operators of the whole executable.
class allocation_counter {
 public:
  allocation_counter() noexcept : before_{total()} {}

  [[nodiscard]] std::size_t count() const noexcept { return total() - before_; }

 private:
  [[nodiscard]] static std::size_t total() noexcept;

  std::size_t before_;
};

}  // namespace support
