#include "caching/stamp.hpp"

#include "engine/seam.hpp"

#include <tenantry/detail/schema_args.hpp>

#include <algorithm>
#include <array>
#include <cstdint>

namespace tenantry::detail {

namespace {

constexpr std::string_view alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// Each fetch looks at a hundred characters of stamps.
constexpr auto in_alphabet = [] {
  std::array<bool, 256> all{};
  for (const char each : alphabet) all[static_cast<unsigned char>(each)] = true;
  return all;
}();

/// Tokens separated by dots.
bool is_stamp(std::string_view text, std::size_t size) noexcept {
  if (text.size() != size) return false;
  for (std::size_t i = 0; i < size; ++i) {
    const bool separator = i % (token_size + 1) == token_size;
    if (separator ? text[i] != '.' : !in_alphabet[static_cast<unsigned char>(text[i])]) return false;
  }
  return true;
}

}  // namespace

std::string random_token() {
  const auto bytes = entropy<token_size>();
  std::string token(token_size, '0');
  std::ranges::transform(bytes, token.begin(), [](std::uint8_t each) { return alphabet[each & 63U]; });
  return token;
}

std::optional<tenant_stamp> tenant_stamp::parse(std::string_view text) {
  if (!is_stamp(text, size)) return std::nullopt;
  return tenant_stamp{text};
}

tenant_stamp tenant_stamp::make() { return tenant_stamp{random_token() + '.' + random_token() + '.' + random_token()}; }

std::optional<tag_stamp> tag_stamp::parse(std::string_view text) {
  if (!is_stamp(text, size)) return std::nullopt;
  return tag_stamp{text};
}

tag_stamp tag_stamp::make() { return tag_stamp{random_token() + '.' + random_token()}; }

std::string stamp_key(const tenant_id& tenant) { return "stamp:{" + tenant.str() + '}'; }

std::string tag_stamp_key(const tenant_id& tenant, std::string_view tag_name) {
  return stamp_key(tenant) + ":tag:" + encode_segment(tag_name);
}

}  // namespace tenantry::detail
