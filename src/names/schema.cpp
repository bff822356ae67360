#include <tenantry/detail/schema_args.hpp>
#include <tenantry/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace tenantry::detail {

namespace {

constexpr auto plain = [] {
  std::array<bool, 256> table{};
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = is_plain(static_cast<char>(static_cast<unsigned char>(i)));
  return table;
}();

bool stands_for_itself(char c) noexcept { return plain[static_cast<unsigned char>(c)]; }

constexpr std::string_view hex_digits = "0123456789ABCDEF";

/// The value of an upper-case hexadecimal digit, or 16.
unsigned hex_value(char c) noexcept { return static_cast<unsigned>(std::min(hex_digits.find(c), hex_digits.size())); }

std::size_t encoded_size(std::string_view text) noexcept {
  std::size_t size = text.size();
  for (const char c : text) size += stands_for_itself(c) ? 0U : 2U;
  return size;
}

char* put(char* out, std::string_view bytes) noexcept {
  std::memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

char* put_encoded(char* out, std::string_view text, std::size_t encoded) noexcept {
  if (encoded == text.size()) return put(out, text);
  for (const char c : text) {
    if (stands_for_itself(c)) {
      *out++ = c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      *out++ = '%';
      *out++ = hex_digits[byte >> 4U];
      *out++ = hex_digits[byte & 15U];
    }
  }
  return out;
}

[[noreturn]] void refuse(const schema_info& schema, const segment& where, std::string_view why) {
  throw invalid_name{fmt::format("{}: argument {} {}", schema.text, where.name, why)};
}

void check(const schema_info& schema, const segment& where, std::string_view value) {
  if (value.empty()) refuse(schema, where, "is empty");
  if (where.kind == segment_kind::number && value.front() == '-') refuse(schema, where, "is negative");
}

/// Renders the segments before `stop`, then one star if `star`.
rendering render_segments(const schema_info& schema, const tenant_id& tenant, std::span<const argument_text> arguments,
                          std::size_t stop, bool star) {
  std::array<std::size_t, max_segments> sizes;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled below
  std::size_t total = stop - 1 + (star ? 2U : 0U);
  std::size_t next = 0;
  for (std::size_t i = 0; i < stop; ++i) {
    const segment& here = schema.segments[i];
    switch (here.kind) {
      case segment_kind::literal:
        sizes[i] = here.name.size();
        break;
      case segment_kind::tenant:
        sizes[i] = tenant.str().size() + (schema.tenant_in_braces ? 2U : 0U);
        break;
      default:
        if (next >= arguments.size()) {
          sizes[i] = 1;
        } else {
          const std::string_view value = arguments[next++].text();
          check(schema, here, value);
          sizes[i] = here.kind == segment_kind::number ? std::max(value.size(), here.width) : encoded_size(value);
        }
    }
    total += sizes[i];
  }

  rendering result{.text = std::string(total, '*'), .tenant_size = tenant.str().size()};
  char* out = result.text.data();
  next = 0;
  for (std::size_t i = 0; i < stop; ++i) {
    if (i > 0) *out++ = ':';
    const segment& here = schema.segments[i];
    switch (here.kind) {
      case segment_kind::literal:
        out = put(out, here.name);
        break;
      case segment_kind::tenant:
        if (schema.tenant_in_braces) *out++ = '{';
        result.tenant_begin = static_cast<std::size_t>(out - result.text.data());
        out = put(out, tenant.str());
        if (schema.tenant_in_braces) *out++ = '}';
        break;
      default:
        if (next >= arguments.size()) {
          ++out;  // the star that the text was filled with
        } else {
          const std::string_view value = arguments[next++].text();
          if (here.kind == segment_kind::number) {
            out = std::fill_n(out, sizes[i] - value.size(), '0');
            out = put(out, value);
          } else {
            out = put_encoded(out, value, sizes[i]);
          }
        }
    }
  }
  if (star) *out = ':';
  return result;
}

bool is_encoded_text(std::string_view segment) noexcept {
  if (segment.empty()) return false;
  for (std::size_t i = 0; i < segment.size(); ++i) {
    if (stands_for_itself(segment[i])) continue;
    if (segment[i] != '%' || segment.size() - i < 3) return false;
    const unsigned high = hex_value(segment[i + 1]);
    const unsigned low = hex_value(segment[i + 2]);
    if (high > 15 || low > 15 || plain[high * 16 + low]) return false;  // only what rendering would have written
    i += 2;
  }
  return true;
}

bool is_padded_number(std::string_view segment, std::size_t width) noexcept {
  if (segment.size() < width || !std::ranges::all_of(segment, is_digit)) return false;
  if (segment.size() > width && segment.front() == '0') return false;
  constexpr std::string_view largest = "18446744073709551615";
  return segment.size() < largest.size() || (segment.size() == largest.size() && segment <= largest);
}

}  // namespace

rendering render(const schema_info& schema, const tenant_id& tenant, std::span<const argument_text> arguments) {
  return render_segments(schema, tenant, arguments, schema.count, false);
}

rendering render_pattern(const schema_info& schema, const tenant_id& tenant, std::span<const argument_text> leading) {
  // Open placeholders at the end fold into one star: the server matches it in one step.
  std::size_t open = schema.arguments() - leading.size();
  std::size_t stop = schema.count;
  for (; open > 0 && schema.is_argument(stop - 1); --open) --stop;
  return render_segments(schema, tenant, leading, stop, stop < schema.count);
}

bool take_apart(const schema_info& schema, std::string_view text, std::string_view& tenant,
                std::span<std::string_view> arguments) noexcept {
  std::size_t next = 0;
  for (std::size_t i = 0; i < schema.count; ++i) {
    const bool last = i + 1 == schema.count;
    const std::size_t colon = text.find(':');
    if (last != (colon == std::string_view::npos)) return false;
    std::string_view here = text.substr(0, colon);
    text.remove_prefix(last ? text.size() : colon + 1);
    const segment& expected = schema.segments[i];
    switch (expected.kind) {
      case segment_kind::literal:
        if (here != expected.name) return false;
        break;
      case segment_kind::tenant:
        if (schema.tenant_in_braces) {
          if (here.size() < 2 || here.front() != '{' || here.back() != '}') return false;
          here = here.substr(1, here.size() - 2);
        }
        if (!tenant_id::valid(here)) return false;
        tenant = here;
        break;
      case segment_kind::text:
        if (!is_encoded_text(here)) return false;
        arguments[next++] = here;
        break;
      case segment_kind::number:
        if (!is_padded_number(here, expected.width)) return false;
        arguments[next++] = here;
        break;
    }
  }
  return true;
}

std::string encode_segment(std::string_view text) {
  std::string encoded(encoded_size(text), '\0');
  put_encoded(encoded.data(), text, encoded.size());
  return encoded;
}

bool is_encoded_segment(std::string_view segment) noexcept { return is_encoded_text(segment); }

std::string decode_segment(std::string_view encoded) {
  std::string text;
  text.reserve(encoded.size());
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] == '%') {
      text += static_cast<char>(hex_value(encoded[i + 1]) * 16 + hex_value(encoded[i + 2]));
      i += 2;
    } else {
      text += encoded[i];
    }
  }
  return text;
}

bool glob_matches(std::string_view glob, std::string_view text) noexcept {
  // On a mismatch only the last star needs to take one byte more: earlier ones cannot help.
  std::size_t g = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      resume = t;
    } else if (g < glob.size() && glob[g] == text[t]) {
      ++g;
      ++t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

}  // namespace tenantry::detail
