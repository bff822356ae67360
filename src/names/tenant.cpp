#include <tenantry/error.hpp>
#include <tenantry/tag.hpp>
#include <tenantry/tenant.hpp>

#include <fmt/format.h>

#include <algorithm>

namespace tenantry {

namespace {

constexpr bool is_tenant_byte(char c) noexcept {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

std::string why_not(std::string_view id) {
  if (id.empty()) return "tenant id is empty";
  if (id.size() > tenant_id::max_size) {
    return fmt::format("tenant id has {} bytes, more than {}", id.size(), tenant_id::max_size);
  }
  const auto bad = std::ranges::find_if_not(id, is_tenant_byte);
  return fmt::format("tenant id has byte 0x{:02x} at {}; only A-Z a-z 0-9 . _ - are allowed",
                     static_cast<unsigned char>(*bad), bad - id.begin());
}

}  // namespace

tenant_id::tenant_id(std::string_view id) : tenant_id{checked{}, valid(id) ? id : throw invalid_name{why_not(id)}} {}

std::optional<tenant_id> tenant_id::parse(std::string_view id) {
  if (!valid(id)) return std::nullopt;
  return tenant_id{checked{}, id};
}

bool tenant_id::valid(std::string_view id) noexcept {
  return !id.empty() && id.size() <= max_size && std::ranges::all_of(id, is_tenant_byte);
}

tag::tag(const tenant_id& tenant, std::string_view name) : tenant_{tenant}, name_{name} {
  if (name.empty()) throw invalid_name{fmt::format("a tag of tenant {} has an empty name", tenant_.str())};
}

}  // namespace tenantry
