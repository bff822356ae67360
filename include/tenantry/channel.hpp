#pragma once
// Channels of publish/subscribe: like keys, made by schemas only.

#include <tenantry/detail/rendered_name.hpp>
#include <tenantry/detail/schema_base.hpp>
#include <tenantry/export.hpp>
#include <tenantry/fixed_string.hpp>
#include <tenantry/placement.hpp>

#include <concepts>
#include <functional>
#include <string_view>

namespace tenantry {

/// Where a channel is known. The same name may be one of each, and they have nothing to do with each other: what is
/// published on one does not reach who listens to the other.
enum class channel_scope : unsigned char {
  global,  ///< in all of a cluster: each message goes to each of its nodes (PUBLISH)
  shard,   ///< on the nodes of the channel's slot only (SPUBLISH), so that a cluster carries more as it grows
};

/// A channel of one tenant, made by a `channel_schema`.
class TENANTRY_EXPORT channel : public detail::rendered_name<channel> {
 public:
  template <std::convertible_to<std::string_view> Text>
  explicit channel(const Text&) {
    static_assert(detail::never<Text>,
                  "tenantry: a channel is rendered by a channel_schema, it cannot be made from a string");
  }

 private:
  friend struct detail::key_access;
  explicit channel(detail::rendering&& from) noexcept : rendered_name{std::move(from)} {}
};

/// The `PSUBSCRIBE` pattern of one tenant's channels of one schema.
class TENANTRY_EXPORT channel_pattern : public detail::rendered_name<channel_pattern> {
 public:
  template <std::convertible_to<std::string_view> Text>
  explicit channel_pattern(const Text&) {
    static_assert(detail::never<Text>,
                  "tenantry: a channel_pattern is made by channel_schema::all, it cannot be made from a string");
  }

  /// True when Redis would match `text` too.
  [[nodiscard]] bool matches(std::string_view text) const noexcept { return detail::glob_matches(str(), text); }

 private:
  friend struct detail::key_access;
  explicit channel_pattern(detail::rendering&& from) noexcept : rendered_name{std::move(from)} {}
};

/// The shape of a family of channels, checked at compile time, with the rules of `key_schema`:
///
///     inline constexpr channel_schema<"alarms:{tenant}"> alarms;
///     channel c = alarms(acme);   // alarms:acme
///
/// With `placement::tenant` the shard channels of a tenant share one slot: `alarms:{acme}`.
template <fixed_string Text, placement Placement = placement::spread>
class channel_schema : public detail::schema_base<Text, Placement == placement::tenant> {
  using base = detail::schema_base<Text, Placement == placement::tenant>;

 public:
  /// The channel of these arguments. Errors: invalid_name for an empty text or a negative number.
  template <class Tenant, class... Args>
  [[nodiscard]] channel operator()(const Tenant& tenant, const Args&... args) const {
    return detail::key_access::make<channel>(base::render_all(tenant, args...));
  }

  /// The pattern of all channels of one tenant, or of those that begin with the given arguments.
  template <class Tenant, class... Args>
  [[nodiscard]] channel_pattern all(const Tenant& tenant, const Args&... leading) const {
    return detail::key_access::make<channel_pattern>(base::render_leading(tenant, leading...));
  }
};

}  // namespace tenantry

template <>
struct std::hash<tenantry::channel> : tenantry::detail::rendered_hash<tenantry::channel> {};
