#pragma once
// A label of cached values, by which one tenant's values are invalidated together.

#include <tenantry/export.hpp>
#include <tenantry/tenant.hpp>

#include <compare>
#include <string>
#include <string_view>

namespace tenantry {

/// A tag of one tenant: `tag{acme, "property:42"}`. The same name under another tenant is another tag.
///
/// The name may hold any bytes, but not be empty.
class TENANTRY_EXPORT tag {
 public:
  /// Errors: invalid_name when the name is empty.
  tag(const tenant_id& tenant, std::string_view name);

  [[nodiscard]] const tenant_id& tenant() const noexcept { return tenant_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  friend bool operator==(const tag&, const tag&) = default;
  friend auto operator<=>(const tag&, const tag&) = default;

 private:
  tenant_id tenant_;
  std::string name_;
};

}  // namespace tenantry
