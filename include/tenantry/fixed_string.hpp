#pragma once
// A string literal as a template argument.

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace tenantry {

/// Holds the bytes of a literal, so that `key_schema<"kpi:{tenant}:portfolio">` can be written.
template <std::size_t N>
struct fixed_string {
  char bytes[N + 1] = {};  // public: a structural type cannot hide its members

  // NOLINTNEXTLINE(google-explicit-constructor): a literal has to convert by itself
  constexpr fixed_string(const char (&literal)[N + 1]) noexcept { std::copy_n(literal, N + 1, bytes); }

  [[nodiscard]] constexpr std::string_view view() const noexcept { return {bytes, N}; }
  [[nodiscard]] static constexpr std::size_t size() noexcept { return N; }
};

template <std::size_t N>
fixed_string(const char (&)[N]) -> fixed_string<N - 1>;

}  // namespace tenantry
