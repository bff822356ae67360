#pragma once
// Bytes of replies, and reading them in segments, for the tests of this folder. Nothing here asserts, so that what is
// measured around it is the reader.

#include "resp/reply_reader.hpp"

#include <tenantry/error.hpp>
#include <tenantry/reply.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reading {

inline constexpr std::size_t mebi = std::size_t{1} << 20U;

/// The bytes of a reply, written as plainly as the specification says it.
inline std::string wire(const tenantry::reply& one) {
  switch (one.type()) {
    case tenantry::reply_type::nil:
      return "$-1\r\n";
    case tenantry::reply_type::status:
      return "+" + one.str() + "\r\n";
    case tenantry::reply_type::error:
      return "-" + one.error_text() + "\r\n";
    case tenantry::reply_type::integer:
      return ":" + std::to_string(one.integer()) + "\r\n";
    case tenantry::reply_type::string:
      return "$" + std::to_string(one.str().size()) + "\r\n" + one.str() + "\r\n";
    case tenantry::reply_type::array:
      break;
  }
  std::string text = "*" + std::to_string(one.elements().size()) + "\r\n";
  for (const tenantry::reply& each : one.elements()) text += wire(each);
  return text;
}

/// Fills the reader with at most `segment` of the bytes, and takes those away.
inline void arrive(tenantry::resp::reply_reader& reader, std::string_view& bytes, std::size_t segment) {
  const auto room = reader.room();
  if (room.empty()) throw std::logic_error{"a reader without room"};
  const std::size_t size = std::min({room.size(), segment, bytes.size()});
  std::memcpy(room.data(), bytes.data(), size);
  reader.filled(size);
  bytes.remove_prefix(size);
}

struct outcome {
  std::vector<tenantry::reply> replies;
  bool refused = false;
  std::size_t taken = 0;  // bytes that had arrived at the end
};

/// Reads everything, in segments of the sizes that `next_size` gives. Ends early where the reader refuses.
inline outcome read(std::string_view bytes, const std::function<std::size_t()>& next_size,
                    const tenantry::reply_limits& limits = {}) {
  outcome out;
  tenantry::resp::reply_reader reader{limits};
  const std::size_t all = bytes.size();
  try {
    while (!bytes.empty()) {
      arrive(reader, bytes, next_size());
      while (auto one = reader.next()) out.replies.push_back(*std::move(one));
    }
  } catch (const tenantry::connection_error& refused) {
    if (refused.code() != tenantry::errc::protocol) throw;
    out.refused = true;
  }
  out.taken = all - bytes.size();
  return out;
}

inline outcome read(std::string_view bytes, std::size_t segment, const tenantry::reply_limits& limits = {}) {
  return read(
      bytes, [segment] { return segment; }, limits);
}

inline constexpr std::size_t whole = std::size_t{1} << 40U;

inline std::string repeated(std::string_view text, std::size_t times) {
  std::string all;
  all.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace reading
