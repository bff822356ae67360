#include <tenantry/catalog.hpp>
#include <tenantry/key.hpp>

#include <algorithm>

namespace tenantry {

std::string key::companion(std::string_view name) const {
  const bool braces = !tenant_in_braces();
  std::string text;
  text.reserve(str().size() + name.size() + 3);
  if (braces) text += '{';
  text += str();
  if (braces) text += '}';
  text += '#';
  text += name;
  return text;
}

std::vector<key_pattern> catalog::patterns(const tenant_id& tenant) const {
  std::vector<key_pattern> all;
  all.reserve(schemas_.size());
  for (const detail::schema_info* schema : schemas_) {
    all.push_back(detail::key_access::make<key_pattern>(detail::render_pattern(*schema, tenant, {})));
  }
  return all;
}

bool catalog::holds(const tenant_id& tenant, std::string_view text) const noexcept {
  return std::ranges::any_of(schemas_, [&](const detail::schema_info* schema) {
    std::string_view found;
    std::array<std::string_view, detail::max_segments> arguments;
    return detail::take_apart(*schema, text, found, std::span{arguments}.first(schema->arguments())) &&
           found == tenant.str();
  });
}

}  // namespace tenantry
