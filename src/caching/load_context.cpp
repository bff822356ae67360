#include <tenantry/error.hpp>
#include <tenantry/load_context.hpp>

#include <algorithm>

namespace tenantry {

void load_context::tag(std::string_view name) {
  if (!tenant_) {
    throw error{errc::unsupported, execution::not_sent, "load_context::tag: envelope::bare has no room for tags"};
  }
  if (name.empty()) throw invalid_name{"a tag of tenant " + tenant_->str() + " has an empty name"};
  if (std::ranges::find(tags_, name) == tags_.end()) tags_.emplace_back(name);
}

}  // namespace tenantry
