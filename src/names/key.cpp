#include <tenantry/catalog.hpp>
#include <tenantry/key.hpp>

#include <algorithm>

namespace tenantry {

namespace {

/// True when the schema renders this as a pattern of some tenant: a star for every open placeholder, and one alone for
/// all that are open at its end.
bool is_pattern_of(const detail::schema_info& schema, std::string_view pattern) noexcept {
  bool open = false;
  for (std::size_t i = 0; i < schema.count; ++i) {
    const std::size_t colon = pattern.find(':');
    const bool last = colon == std::string_view::npos;
    const std::string_view here = pattern.substr(0, colon);
    pattern.remove_prefix(last ? pattern.size() : colon + 1);
    const detail::segment& expected = schema.segments[i];
    if (expected.kind == detail::segment_kind::literal) {
      if (here != expected.name) return false;
    } else if (expected.kind == detail::segment_kind::tenant) {
      if (here.starts_with('{') != schema.tenant_in_braces) return false;
    } else {
      if (open && here != "*") return false;
      open = here == "*";
      while (last && open && i + 1 < schema.count && schema.is_argument(i + 1)) ++i;
    }
    if (last) return i + 1 == schema.count;
  }
  return false;
}

}  // namespace

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

std::optional<std::string_view> key::owner_of(std::string_view companion) noexcept {
  const std::size_t hash = companion.find('#');  // no key has one
  if (hash == std::string_view::npos) return std::nullopt;
  const std::string_view owner = companion.substr(0, hash);
  if (owner.size() > 2 && owner.front() == '{' && owner.back() == '}') {
    const std::string_view inside = owner.substr(1, owner.size() - 2);
    if (inside.find_first_of("{}") != std::string_view::npos) return std::nullopt;
    return inside;
  }
  if (owner.find(":{") == std::string_view::npos) return std::nullopt;  // a key without braces gets some
  return owner;
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

bool catalog::makes(const key_pattern& pattern) const noexcept {
  return std::ranges::any_of(schemas_,
                             [&](const detail::schema_info* schema) { return is_pattern_of(*schema, pattern.str()); });
}

}  // namespace tenantry
