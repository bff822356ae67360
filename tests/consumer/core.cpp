// Uses the installed library without a server: names, and an exception that crosses the library's boundary.

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/version.hpp>

#include <cstdio>

inline constexpr tenantry::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> reading_monthly;

int main() {
  const tenantry::tenant_id acme{"acme"};
  if (reading_monthly(acme, "unit-7", 2026, 3).str() != "readings:acme:monthly:unit-7:2026:03") return 1;
  try {
    tenantry::tenant_id{"a:b"};
    return 2;
  } catch (const tenantry::invalid_name&) {
  }
  try {
    const tenantry::client redis{"nonsense://localhost"};
    return 3;
  } catch (const tenantry::error& e) {
    if (e.code() != tenantry::errc::invalid_option) return 4;
    std::puts(e.what());
  }
}
