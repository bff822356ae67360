#pragma once
// The arguments of a schema's placeholders on their way into and out of a rendered text.

#include <tenantry/detail/argument_text.hpp>
#include <tenantry/detail/rendered_name.hpp>
#include <tenantry/detail/schema_text.hpp>
#include <tenantry/export.hpp>
#include <tenantry/tenant.hpp>

#include <span>
#include <string>
#include <string_view>

namespace tenantry::detail {

/// The key or channel of these arguments, in one allocation.
///
/// Errors: invalid_name for an empty text or a negative number, naming the schema and the placeholder.
TENANTRY_EXPORT rendering render(const schema_info& schema, const tenant_id& tenant,
                                 std::span<const argument_text> arguments);

/// The glob of every text that begins with these arguments; the placeholders after them match anything.
TENANTRY_EXPORT rendering render_pattern(const schema_info& schema, const tenant_id& tenant,
                                         std::span<const argument_text> leading);

/// Takes a text apart into the tenant and the encoded arguments. False unless rendering these gives `text` again.
TENANTRY_EXPORT bool take_apart(const schema_info& schema, std::string_view text, std::string_view& tenant,
                                std::span<std::string_view> arguments) noexcept;

/// Text in the form in which it stands in a key.
TENANTRY_EXPORT std::string encode_segment(std::string_view text);

/// True for what `encode_segment` makes.
TENANTRY_EXPORT bool is_encoded_segment(std::string_view segment) noexcept;

/// The bytes that were percent-encoded to `encoded`, which `take_apart` or `is_encoded_segment` has checked.
TENANTRY_EXPORT std::string decode_segment(std::string_view encoded);

}  // namespace tenantry::detail
