#pragma once
// Typed tenant keys: `{prefix}:{tenant}:{resource}:{id}`, rendered, parsed back and matched.

#include <tenantry/detail/schema_base.hpp>
#include <tenantry/fixed_string.hpp>
#include <tenantry/key.hpp>
#include <tenantry/placement.hpp>

namespace tenantry {

/// The shape of a family of keys, checked at compile time.
///
///     inline constexpr key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading_monthly;
///     key k = reading_monthly(acme, "unit-7", 2026, 3);   // readings:acme:monthly:unit-7:2026:03
///
/// Two different lists of rendered arguments never give the same key, and no argument, whatever its bytes, reaches
/// another tenant's keys: `% : # * ? [ ] \ { }`, space, control bytes and bytes above 0x7e are percent-encoded.
/// An argument for a plain placeholder is text (an integer counts as its decimal text) and not empty; one with a width
/// is a non-negative integer, padded with zeros.
///
/// Threads: safe; a schema has no state.
template <fixed_string Text, placement Placement = placement::spread>
class key_schema : public detail::schema_base<Text, Placement == placement::tenant> {
  using base = detail::schema_base<Text, Placement == placement::tenant>;

 public:
  /// The key of these arguments.
  ///
  /// Errors: invalid_name for an empty text or a negative number.
  /// Cost: one allocation.
  template <class Tenant, class... Args>
  [[nodiscard]] key operator()(const Tenant& tenant, const Args&... args) const {
    return detail::key_access::make<key>(base::render_all(tenant, args...));
  }

  /// The pattern of all keys of one tenant, or of those that begin with the given arguments:
  /// `reading_monthly.all(acme, "unit-7")` is `readings:acme:monthly:unit-7:*`.
  ///
  /// A glob `*` also matches colons, so a pattern may match keys that this schema would not parse; it never matches a
  /// key of another tenant.
  template <class Tenant, class... Args>
  [[nodiscard]] key_pattern all(const Tenant& tenant, const Args&... leading) const {
    return detail::key_access::make<key_pattern>(base::render_leading(tenant, leading...));
  }
};

}  // namespace tenantry
