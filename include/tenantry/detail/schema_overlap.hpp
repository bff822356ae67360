#pragma once
// Decides at compile time whether one text could match the patterns of two schemas.

#include <tenantry/detail/schema_text.hpp>

#include <array>
#include <cstddef>

namespace tenantry::detail {

/// A schema's pattern of one tenant, in which the tenant is a single byte.
struct glob_text {
  std::array<char, max_schema_size + 2> bytes{};
  std::size_t size = 0;

  constexpr explicit glob_text(const schema_info& schema) noexcept {
    // Arguments at the end fold into one star, as in the pattern that SCAN gets.
    std::size_t last = schema.count;
    while (last > 0 && schema.is_argument(last - 1)) --last;
    for (std::size_t i = 0; i < schema.count && i <= last; ++i) {
      if (i > 0) bytes[size++] = ':';
      if (schema.is_argument(i)) {
        bytes[size++] = '*';
      } else if (schema.segments[i].kind == segment_kind::tenant) {
        bytes[size++] = schema.tenant_in_braces ? '}' : '{';
      } else {
        for (const char c : schema.segments[i].name) bytes[size++] = c;
      }
    }
  }
};

/// True when some text matches both globs.
constexpr bool overlap(const glob_text& a, const glob_text& b) noexcept {
  // reach[j]: the rest of `a` from i and the rest of `b` from j have a text in common; filled from the ends.
  std::array<bool, max_schema_size + 3> reach{};
  for (std::size_t i = a.size + 1; i-- > 0;) {
    bool diagonal = false;  // reach[j + 1] of the row before
    for (std::size_t j = b.size + 1; j-- > 0;) {
      const bool below = reach[j];
      bool here = false;
      if (i == a.size && j == b.size) {
        here = true;
      } else {
        const bool star_a = i < a.size && a.bytes[i] == '*';
        const bool star_b = j < b.size && b.bytes[j] == '*';
        if (star_a || star_b) {
          here = (i < a.size && below) || (j < b.size && reach[j + 1]);
        } else {
          here = i < a.size && j < b.size && a.bytes[i] == b.bytes[j] && diagonal;
        }
      }
      diagonal = below;
      reach[j] = here;
    }
  }
  return reach[0];
}

template <std::size_t N>
constexpr bool any_overlap(const std::array<const schema_info*, N>& schemas) noexcept {
  for (std::size_t i = 0; i < N; ++i) {
    for (std::size_t j = i + 1; j < N; ++j) {
      if (overlap(glob_text{*schemas[i]}, glob_text{*schemas[j]})) return true;
    }
  }
  return false;
}

}  // namespace tenantry::detail
