#include "messaging/log_id.hpp"

#include "engine/seam.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <system_error>

namespace tenantry::detail {

namespace {

constexpr std::string_view digits = "0123456789abcdef";

bool is_hex(std::string_view text) noexcept {
  return !text.empty() && text.find_first_not_of(digits) == std::string_view::npos;
}

template <std::size_t Bytes>
std::string random_hex() {
  std::string text;
  text.reserve(2 * Bytes);
  for (const std::uint8_t each : entropy<Bytes>()) {
    text += digits[each >> 4U];
    text += digits[each & 15U];
  }
  return text;
}

}  // namespace

std::optional<log_id> log_id::parse(std::string_view text) {
  if (text.size() > 64) return std::nullopt;
  const std::size_t first = text.find('-');
  const std::size_t second = first == std::string_view::npos ? first : text.find('-', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const std::string_view epoch = text.substr(0, first);
  const std::string_view number = text.substr(first + 1, second - first - 1);
  const std::string_view tag = text.substr(second + 1);
  const bool canonical = !number.empty() && (number == "0" || number.front() != '0');
  if (epoch.size() != 16 || !is_hex(epoch) || !canonical || !(tag == no_tag || (tag.size() == 8 && is_hex(tag)))) {
    return std::nullopt;
  }
  log_id id{.epoch = std::string{epoch}, .offset = 0, .tag = std::string{tag}};
  const auto [end, fault] = std::from_chars(number.data(), number.data() + number.size(), id.offset);
  // Up to what Lua counts exactly.
  if (fault != std::errc{} || end != number.data() + number.size() || id.offset > (std::uint64_t{1} << 53U)) {
    return std::nullopt;
  }
  return id;
}

std::string new_epoch() { return random_hex<8>(); }
std::string new_tag() { return random_hex<4>(); }

}  // namespace tenantry::detail
