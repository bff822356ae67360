#pragma once
// Who a request is from: bearer tokens, each of a tenant.

#include "http.hpp"

#include <tenantry/tenant.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace gateway {

/// From a file: {"<token>": "<tenant>"}. A real service verifies signed tokens instead; what matters is that the tenant
/// comes from there and from nowhere else in a request.
class logins {
 public:
  /// Errors: std::runtime_error, tenantry::invalid_name.
  static logins read(const std::string& file);

  /// The tenant of `Authorization: Bearer <token>`.
  [[nodiscard]] std::optional<tenantry::tenant_id> tenant_of(const request& from) const;
  [[nodiscard]] std::vector<tenantry::tenant_id> tenants() const;
  /// For the login of the demo's page: [{"tenant":"acme","token":"..."}]
  [[nodiscard]] std::string json() const;

 private:
  std::map<std::string, tenantry::tenant_id, std::less<>> by_token_;
};

}  // namespace gateway
