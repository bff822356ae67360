#pragma once
// Keys and key patterns: texts that only a schema can make, each of exactly one tenant.

#include <tenantry/detail/rendered_name.hpp>
#include <tenantry/export.hpp>

#include <concepts>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace tenantry {

/// The key of one value of one tenant, made by a `key_schema`.
class TENANTRY_EXPORT key : public detail::rendered_name<key> {
 public:
  template <std::convertible_to<std::string_view> Text>
  explicit key(const Text&) {
    static_assert(detail::never<Text>, "tenantry: a key is rendered by a key_schema, it cannot be made from a string");
  }

  /// The name of a key that lives beside this one, in the same slot of a cluster.
  ///
  /// Keys: `{kpi:acme:portfolio}#lease`, with tenant placement `kpi:{acme}:portfolio#lease`. No schema renders these.
  [[nodiscard]] std::string companion(std::string_view name) const;

  /// The text of the key that a companion lives beside, as a part of `companion`: the inverse. Nothing when no key has
  /// a companion of that name. Whether a schema rendered the key is for the schema or a catalog to say.
  [[nodiscard]] static std::optional<std::string_view> owner_of(std::string_view companion) noexcept;

 private:
  friend struct detail::key_access;
  explicit key(detail::rendering&& from) noexcept : rendered_name{std::move(from)} {}
};

/// The `SCAN MATCH` pattern of one tenant's keys of one schema.
class TENANTRY_EXPORT key_pattern : public detail::rendered_name<key_pattern> {
 public:
  template <std::convertible_to<std::string_view> Text>
  explicit key_pattern(const Text&) {
    static_assert(detail::never<Text>,
                  "tenantry: a key_pattern is made by key_schema::all, it cannot be made from a string");
  }

  /// True when Redis would match `text` too.
  [[nodiscard]] bool matches(std::string_view text) const noexcept { return detail::glob_matches(str(), text); }

 private:
  friend struct detail::key_access;
  explicit key_pattern(detail::rendering&& from) noexcept : rendered_name{std::move(from)} {}
};

}  // namespace tenantry

template <>
struct std::hash<tenantry::key> : tenantry::detail::rendered_hash<tenantry::key> {};
