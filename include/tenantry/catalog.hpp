#pragma once
// The list of an application's key schemas, proven at compile time not to overlap.

#include <tenantry/detail/schema_overlap.hpp>
#include <tenantry/export.hpp>
#include <tenantry/key.hpp>
#include <tenantry/key_schema.hpp>

#include <concepts>
#include <string_view>
#include <vector>

namespace tenantry {

namespace detail {
template <class T>
inline constexpr bool is_key_schema = false;
template <fixed_string Text, placement Placement>
inline constexpr bool is_key_schema<key_schema<Text, Placement>> = true;
}  // namespace detail

/// Key schemas whose patterns do not overlap, so that every key belongs to one of them at most.
///
///     const catalog keys{portfolio_kpi, reading_monthly};
///
/// Threads: safe; a catalog does not change.
class TENANTRY_EXPORT catalog {
 public:
  template <class... Schemas>
    requires(sizeof...(Schemas) > 0 && !(std::same_as<Schemas, catalog> || ...))
  explicit catalog(const Schemas&...) : schemas_{&Schemas::info...} {
    static_assert((detail::is_key_schema<Schemas> && ...), "tenantry: a catalog holds key schemas only");
    static_assert(!detail::any_overlap<sizeof...(Schemas)>({&Schemas::info...}),
                  "tenantry: the patterns of two schemas of this catalog overlap, so a key could belong to both; "
                  "give one of them another prefix or resource");
  }

  /// The patterns of all keys of one tenant, one per schema, in the order of the constructor.
  [[nodiscard]] std::vector<key_pattern> patterns(const tenant_id& tenant) const;

  /// True when one of the schemas rendered `text` for this very tenant.
  [[nodiscard]] bool holds(const tenant_id& tenant, std::string_view text) const noexcept;

  /// True when `key_schema::all` of one of the schemas makes this pattern.
  [[nodiscard]] bool makes(const key_pattern& pattern) const noexcept;

 private:
  std::vector<const detail::schema_info*> schemas_;
};

}  // namespace tenantry
