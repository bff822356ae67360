#pragma once
// A settlement as a PDF of one page.

#include "store.hpp"

#include <tenantry/tenant.hpp>

#include <string>

namespace gateway {

std::string pdf_of(const tenantry::tenant_id& tenant, const settlement& what);

}  // namespace gateway
