#pragma once
// Bytes in, replies out: the receive buffer of one connection, its framer and its decoder.

#include "resp/decode.hpp"
#include "resp/framer.hpp"

#include <tenantry/reply.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace tenantry::resp {

class reply_reader {
 public:
  explicit reply_reader(const reply_limits& limits);

  /// Where to put the next bytes. It grows with what arrived, never with what was announced.
  [[nodiscard]] std::span<char> room();
  /// The first `size` bytes of `room()` are filled.
  void filled(std::size_t size) noexcept { end_ += size; }

  /// The next whole reply, or nothing until more bytes arrive.
  /// Errors: connection_error (protocol) for what is not RESP2 or over the limits; the reader is not usable after it.
  [[nodiscard]] std::optional<reply> next();

  /// True when no byte of another reply has arrived.
  [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }

 private:
  static constexpr std::size_t chunk = 32U << 10U;

  framer framer_;
  decoder decoder_;
  std::unique_ptr<char[]> bytes_;  // NOLINT(*-avoid-c-arrays): uninitialised on purpose
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace tenantry::resp
