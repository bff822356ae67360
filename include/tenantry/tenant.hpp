#pragma once
// The tenant in whose name every key is rendered.

#include <tenantry/export.hpp>

#include <compare>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace tenantry {

namespace detail {
struct key_access;
}

/// A tenant's identity: 1 to 64 bytes of `[A-Za-z0-9._-]`.
///
/// Take it from a verified access token and nowhere else. Bytes outside the set are refused, never repaired, because
/// a repaired id is another tenant's id sooner or later.
class TENANTRY_EXPORT tenant_id {
 public:
  static constexpr std::size_t max_size = 64;

  /// Errors: invalid_name, with the reason and the offending byte.
  explicit tenant_id(std::string_view id);

  /// The id, or nothing where the constructor would throw.
  [[nodiscard]] static std::optional<tenant_id> parse(std::string_view id);

  /// True where the constructor would not throw.
  [[nodiscard]] static bool valid(std::string_view id) noexcept;

  // A move copies, so that a tenant that was moved from is still a tenant.
  tenant_id(const tenant_id&) = default;
  tenant_id& operator=(const tenant_id&) = default;
  ~tenant_id() = default;

  [[nodiscard]] const std::string& str() const noexcept { return id_; }

  friend bool operator==(const tenant_id&, const tenant_id&) = default;
  friend auto operator<=>(const tenant_id&, const tenant_id&) = default;

 private:
  friend struct detail::key_access;
  struct checked {};
  tenant_id(checked, std::string_view id) : id_{id} {}

  std::string id_;
};

}  // namespace tenantry

template <>
struct std::hash<tenantry::tenant_id> {
  std::size_t operator()(const tenantry::tenant_id& id) const noexcept { return std::hash<std::string>{}(id.str()); }
};
