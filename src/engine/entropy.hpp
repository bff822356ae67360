#pragma once
// Bytes that nobody else has.

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <unistd.h>

namespace tenantry::detail {

/// From the kernel, each time: a generator of the process would go on the same way in its forks, and the processor's
/// own (std::random_device) takes as long as a round trip.
/// Errors: std::system_error.
template <std::size_t Size>
std::array<std::uint8_t, Size> entropy() {
  static_assert(Size <= 256);
  std::array<std::uint8_t, Size> bytes{};
  if (::getentropy(bytes.data(), Size) != 0) throw std::system_error{errno, std::generic_category(), "getentropy"};
  return bytes;
}

}  // namespace tenantry::detail
