#pragma once
// What keys, channels and their patterns have in common: a text that a schema rendered for one tenant.

#include <tenantry/export.hpp>
#include <tenantry/tenant.hpp>

#include <compare>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace tenantry::detail {

template <class>
inline constexpr bool never = false;

/// A rendered text and where in it the tenant stands.
struct rendering {
  std::string text;
  std::size_t tenant_begin = 0;
  std::size_t tenant_size = 0;
};

/// The only way to make keys, patterns and channels; schemas use it, applications do not.
struct key_access {
  template <class Name>
  static Name make(rendering&& from) {
    return Name{std::move(from)};
  }
  static tenant_id tenant(std::string_view checked_id) { return {tenant_id::checked{}, checked_id}; }
};

template <class Self>
class rendered_name {
 public:
  /// The text as it goes to Redis.
  [[nodiscard]] const std::string& str() const noexcept { return name_.text; }
  [[nodiscard]] tenant_id tenant() const {
    return key_access::tenant(std::string_view{name_.text}.substr(name_.tenant_begin, name_.tenant_size));
  }

  friend bool operator==(const Self& a, const Self& b) noexcept { return a.str() == b.str(); }
  friend auto operator<=>(const Self& a, const Self& b) noexcept { return a.str() <=> b.str(); }

 protected:
  explicit rendered_name(rendering&& from) noexcept : name_{std::move(from)} {}
  /// True when the tenant stands in braces (a hash tag of Redis Cluster).
  [[nodiscard]] bool tenant_in_braces() const noexcept { return name_.text[name_.tenant_begin - 1] == '{'; }

 private:
  rendering name_;
};

template <class Name>
struct rendered_hash {
  std::size_t operator()(const Name& name) const noexcept { return std::hash<std::string>{}(name.str()); }
};

/// True when `text` matches `glob`, in which only `*` is special, as `SCAN MATCH` and `PSUBSCRIBE` judge it.
TENANTRY_EXPORT bool glob_matches(std::string_view glob, std::string_view text) noexcept;

}  // namespace tenantry::detail
