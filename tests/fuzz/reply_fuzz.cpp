// Arbitrary bytes as replies: what resp::reply_reader makes of them is what a strict second reading makes of them,
// however they are cut into segments, in little memory.
//
// An input is "sizes|bytes": each byte before the first '|' is the size of a segment, in turn; a digit is its own
// value, another byte a larger one. Without a '|' among the first 17 bytes everything arrives at once.

#include "check.hpp"
#include "resp/reply_reader.hpp"
#include "strict_resp.hpp"

#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <support/allocation_counter.hpp>
#include <utility>
#include <vector>

namespace {

using fuzz::require;
using tenantry::reply;

constexpr tenantry::reply_limits limits{.bytes = 4096, .elements = 64, .line = 64, .depth = 8};
constexpr std::size_t most_memory = std::size_t{1} << 20U;

struct outcome {
  std::vector<reply> replies;
  bool refused = false;
  bool rest = false;  // the beginning of another reply has arrived

  friend bool operator==(const outcome&, const outcome&) = default;
};

std::size_t segment_of(char c) noexcept {
  if (c >= '1' && c <= '9') return static_cast<std::size_t>(c - '0');
  return 10 + 8 * std::size_t{static_cast<unsigned char>(c)};
}

/// What the reader makes of the bytes; everything at once where there are no sizes.
outcome read(std::string_view bytes, std::string_view sizes) {
  outcome out;
  tenantry::resp::reply_reader reader{limits};
  try {
    for (std::size_t turn = 0; !bytes.empty(); ++turn) {
      const auto room = reader.room();
      require(!room.empty(), "a reader has room");
      std::size_t size = std::min(room.size(), bytes.size());
      if (!sizes.empty()) size = std::min(size, segment_of(sizes[turn % sizes.size()]));
      std::memcpy(room.data(), bytes.data(), size);
      reader.filled(size);
      bytes.remove_prefix(size);
      while (auto one = reader.next()) out.replies.push_back(*std::move(one));
    }
    out.rest = !reader.empty();
  } catch (const tenantry::connection_error& refused) {
    require(refused.code() == tenantry::errc::protocol, "a refusal is a protocol error");
    require(refused.execution() == tenantry::execution::unknown, "the framer refuses before the decoder has to");
    require(std::string_view{refused.what()}.size() < 200, "a refusal is short");
    out.refused = true;
  }
  return out;
}

/// What the second reading makes of the same bytes.
outcome expected(std::string_view bytes) {
  outcome out;
  while (!bytes.empty()) {
    fuzz::strict_resp strict{bytes, limits};
    reply one;
    switch (strict.read(one)) {
      case fuzz::strict_resp::verdict::wrong:
        out.refused = true;
        return out;
      case fuzz::strict_resp::verdict::part:
        out.rest = true;
        return out;
      case fuzz::strict_resp::verdict::whole:
        break;
    }
    out.replies.push_back(std::move(one));
    bytes.remove_prefix(strict.size());
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes{reinterpret_cast<const char*>(data), size};
  std::string_view sizes;
  if (const std::size_t bar = bytes.substr(0, 17).find('|'); bar != std::string_view::npos) {
    sizes = bytes.substr(0, bar);
    bytes.remove_prefix(bar + 1);
  }
  const support::allocation_counter memory;
  const outcome in_segments = read(bytes, sizes);
  require(memory.peak_bytes() < most_memory, "an input takes less than 1 MiB");
  require(in_segments == read(bytes, {}), "the segments make no difference");
  require(in_segments == read(bytes, "1"), "single bytes make no difference");
  require(in_segments == expected(bytes), "the second reading agrees");
  return 0;
}
