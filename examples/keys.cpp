// What a schema can do: render, parse, match, and list.
#include "schemas.hpp"

#include <tenantry/catalog.hpp>
#include <tenantry/error.hpp>

#include <iostream>
#include <string>

using schemas::portfolio_kpi;
using schemas::reading_monthly;

int main() {
  const tenantry::tenant_id acme{"acme"};

  const tenantry::key k = reading_monthly(acme, "unit-7", 2026, 3);  // readings:acme:monthly:unit-7:2026:03
  std::cout << k.str() << '\n';
  const std::string unit = reading_monthly.parse(k.str())->get<"unit">();  // "unit-7"
  std::cout << unit << '\n';
  std::cout << reading_monthly.all(acme).str() << '\n';            // readings:acme:monthly:*
  std::cout << reading_monthly.all(acme, "unit-7").str() << '\n';  // readings:acme:monthly:unit-7:*

  const tenantry::key hostile = reading_monthly(acme, "*:x", 2026, 3);
  std::cout << hostile.str() << '\n';  // readings:acme:monthly:%2A%3Ax:2026:03

  const tenantry::catalog keys{portfolio_kpi, reading_monthly};  // does not compile if their patterns overlap
  const bool ours = keys.holds(acme, hostile.str());             // rendered by one of them, for this tenant

  try {
    const tenantry::tenant_id refused{"acme:*"};
  } catch (const tenantry::invalid_name& reason) {
    std::cout << reason.what() << '\n';
    return ours && unit == "unit-7" ? 0 : 1;
  }
  return 1;
}
