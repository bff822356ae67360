#pragma once
// Reads a schema's text at compile time: its segments, and what is wrong with it.

#include <array>
#include <cstddef>
#include <string_view>

namespace tenantry::detail {

/// True for bytes that stand for themselves in a rendered segment; all others are percent-encoded.
constexpr bool is_plain(char c) noexcept {
  const auto byte = static_cast<unsigned char>(c);
  return byte > 0x20 && byte < 0x7f && std::string_view{"%:#*?[]\\{}"}.find(c) == std::string_view::npos;
}

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

enum class segment_kind : unsigned char { literal, tenant, text, number };

struct segment {
  segment_kind kind = segment_kind::literal;
  std::string_view name;  // the literal, or the placeholder's name
  std::size_t width = 0;  // the least number of digits of a number
};

enum class schema_defect : unsigned char {
  none,
  too_long,
  empty_segment,
  prefix,
  reserved_prefix,
  tenant_missing,
  tenant_repeated,
  partial_placeholder,
  placeholder_name,
  duplicate_name,
  width,
  literal_byte
};

inline constexpr std::size_t max_segments = 16;
inline constexpr std::size_t max_schema_size = 128;

/// Everything that rendering and parsing need to know of a schema.
struct schema_info {
  std::string_view text;
  std::array<segment, max_segments> segments{};
  std::size_t count = 0;
  schema_defect defect = schema_defect::none;
  bool tenant_in_braces = false;

  [[nodiscard]] constexpr bool is_argument(std::size_t i) const noexcept {
    return segments[i].kind == segment_kind::text || segments[i].kind == segment_kind::number;
  }
  [[nodiscard]] constexpr std::size_t arguments() const noexcept {
    std::size_t n = 0;
    for (std::size_t i = 0; i < count; ++i) n += is_argument(i) ? 1 : 0;
    return n;
  }
  /// The segment of the n-th argument.
  [[nodiscard]] constexpr const segment& argument(std::size_t n) const noexcept {
    std::size_t i = 0;
    for (;; ++i) {
      if (is_argument(i) && n-- == 0) return segments[i];
    }
  }
  /// Which argument has this name, or `arguments()`.
  [[nodiscard]] constexpr std::size_t index_of(std::string_view name) const noexcept {
    const std::size_t n = arguments();
    for (std::size_t i = 0; i < n; ++i) {
      if (argument(i).name == name) return i;
    }
    return n;
  }
};

constexpr bool is_reserved_prefix(std::string_view prefix) noexcept {
  return prefix == "stamp" || prefix == "log" || prefix == "ratelimit" || prefix == "permits";
}

constexpr schema_defect read_placeholder(std::string_view inside, segment& out) noexcept {
  std::size_t colon = 0;  // not find: GCC 12 with -fsanitize=undefined cannot evaluate that at compile time
  while (colon < inside.size() && inside[colon] != ':') ++colon;
  out.name = inside.substr(0, colon);
  if (out.name.empty() || is_digit(out.name.front())) return schema_defect::placeholder_name;
  for (const char c : out.name) {
    if (!((c >= 'a' && c <= 'z') || c == '_' || is_digit(c))) return schema_defect::placeholder_name;
  }
  out.kind = out.name == "tenant" ? segment_kind::tenant : segment_kind::text;
  if (colon == inside.size()) return schema_defect::none;
  const std::string_view width = inside.substr(colon + 1);
  if (out.kind == segment_kind::tenant || width.size() < 2 || width.size() > 3 || width[0] != '0' || width[1] == '0') {
    return schema_defect::width;
  }
  for (const char c : width) {
    if (!is_digit(c)) return schema_defect::width;
    out.width = out.width * 10 + static_cast<std::size_t>(c - '0');
  }
  out.kind = segment_kind::number;
  return out.width <= 19 ? schema_defect::none : schema_defect::width;
}

constexpr schema_defect read_segment(std::string_view text, segment& out) noexcept {
  if (text.empty()) return schema_defect::empty_segment;
  if (text.front() == '{' && text.back() == '}' && text.size() > 1) {
    return read_placeholder(text.substr(1, text.size() - 2), out);
  }
  out.name = text;
  for (const char c : text) {
    if (c == '{' || c == '}') return schema_defect::partial_placeholder;
    if (!is_plain(c)) return schema_defect::literal_byte;
  }
  return schema_defect::none;
}

/// The size of the segment that starts `rest`; a colon inside braces does not end it.
constexpr std::size_t segment_size(std::string_view rest) noexcept {
  bool braces = false;
  for (std::size_t i = 0; i < rest.size(); ++i) {
    if (rest[i] == '{') braces = true;
    if (rest[i] == '}') braces = false;
    if (rest[i] == ':' && !braces) return i;
  }
  return rest.size();
}

constexpr schema_defect read_segments(schema_info& info) noexcept {
  if (info.text.size() > max_schema_size) return schema_defect::too_long;
  for (std::size_t at = 0; at <= info.text.size(); ++info.count) {
    if (info.count == max_segments) return schema_defect::too_long;
    segment& here = info.segments[info.count];
    const std::size_t size = segment_size(info.text.substr(at));
    if (const auto defect = read_segment(info.text.substr(at, size), here); defect != schema_defect::none) {
      return defect;
    }
    for (std::size_t i = 0; i < info.count; ++i) {
      if (here.kind == segment_kind::literal || info.segments[i].name != here.name) continue;
      if (info.segments[i].kind == segment_kind::literal) continue;
      return here.kind == segment_kind::tenant ? schema_defect::tenant_repeated : schema_defect::duplicate_name;
    }
    at += size + 1;
  }
  return schema_defect::none;
}

constexpr schema_info read_schema(std::string_view text, bool tenant_in_braces) noexcept {
  schema_info info{.text = text, .tenant_in_braces = tenant_in_braces};
  info.defect = read_segments(info);
  if (info.defect != schema_defect::none) return info;
  if (info.segments[0].kind != segment_kind::literal) {
    info.defect = schema_defect::prefix;
  } else if (is_reserved_prefix(info.segments[0].name)) {
    info.defect = schema_defect::reserved_prefix;
  } else if (info.count < 2 || info.segments[1].kind != segment_kind::tenant) {
    info.defect = schema_defect::tenant_missing;
  }
  return info;
}

}  // namespace tenantry::detail
