#pragma once
// What key and channel schemas share: the checks of a schema's text, and typed rendering and parsing.

#include <tenantry/detail/schema_args.hpp>
#include <tenantry/detail/schema_text.hpp>
#include <tenantry/fixed_string.hpp>
#include <tenantry/tenant.hpp>

#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

namespace tenantry::detail {

template <segment_kind Kind>
struct parsed_argument {
  using type = std::string;
  static type from(std::string_view encoded) { return decode_segment(encoded); }
};
template <>
struct parsed_argument<segment_kind::number> {
  using type = std::uint64_t;
  static type from(std::string_view digits) {
    type value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
  }
};

template <fixed_string Text, bool TenantInBraces>
class schema_base {
 public:
  static constexpr schema_info info = read_schema(Text.view(), TenantInBraces);

  static_assert(info.defect != schema_defect::too_long,
                "tenantry: a schema has at most 16 segments and 128 characters");
  static_assert(info.defect != schema_defect::empty_segment, "tenantry: a schema has no empty segment");
  static_assert(info.defect != schema_defect::prefix,
                "tenantry: the first segment of a schema is a literal prefix, like kpi");
  static_assert(info.defect != schema_defect::reserved_prefix,
                "tenantry: the prefixes stamp, log, ratelimit and permits belong to the library");
  static_assert(info.defect != schema_defect::tenant_missing,
                "tenantry: the second segment of a schema must be {tenant}");
  static_assert(info.defect != schema_defect::tenant_repeated, "tenantry: {tenant} stands in a schema once");
  static_assert(info.defect != schema_defect::partial_placeholder,
                "tenantry: a placeholder fills a whole segment; gw-{id} is not a segment");
  static_assert(info.defect != schema_defect::placeholder_name,
                "tenantry: the name of a placeholder is made of a-z, 0-9 and _");
  static_assert(info.defect != schema_defect::duplicate_name,
                "tenantry: two placeholders of a schema have the same name");
  static_assert(info.defect != schema_defect::width,
                "tenantry: the width of a placeholder is a zero and a number up to 19, like {month:02}");
  static_assert(info.defect != schema_defect::literal_byte,
                "tenantry: a literal segment holds no space, control byte, % : # * ? [ ] backslash or byte over 0x7e");

  /// What a text of this schema was rendered from.
  class parts {
    template <std::size_t... I>
    static auto tuple_type(std::index_sequence<I...>)
        -> std::tuple<typename parsed_argument<info.argument(I).kind>::type...>;

   public:
    using tuple = decltype(tuple_type(std::make_index_sequence<info.arguments()>{}));

    parts(const tenant_id& tenant, tuple arguments) : tenant_{tenant}, arguments_{std::move(arguments)} {}

    [[nodiscard]] const tenant_id& tenant() const noexcept { return tenant_; }
    /// The arguments in order: std::uint64_t for a placeholder with a width, std::string for any other.
    [[nodiscard]] const tuple& arguments() const noexcept { return arguments_; }
    /// One argument by its placeholder's name: `parts.get<"unit">()`.
    template <fixed_string Name>
    [[nodiscard]] const auto& get() const noexcept {
      constexpr std::size_t index = info.index_of(Name.view());
      static_assert(index < info.arguments(), "tenantry: this schema has no placeholder of that name");
      return std::get<index>(arguments_);
    }

    friend bool operator==(const parts&, const parts&) = default;

   private:
    tenant_id tenant_;
    tuple arguments_;
  };

  /// The schema's own text.
  [[nodiscard]] constexpr std::string_view text() const noexcept { return info.text; }

  /// What `text` was rendered from, or nothing if this schema did not render it: the exact inverse of rendering.
  [[nodiscard]] std::optional<parts> parse(std::string_view text) const {
    std::string_view tenant;
    std::array<std::string_view, info.arguments()> raw;
    if (!take_apart(info, text, tenant, raw)) return std::nullopt;
    return make_parts(tenant, raw, std::make_index_sequence<info.arguments()>{});
  }

 protected:
  template <class Tenant, class... Args>
  static rendering render_all(const Tenant& tenant, const Args&... args) {
    static_assert(sizeof...(Args) >= info.arguments(), "tenantry: too few arguments for this schema's placeholders");
    return render_checked<&render>(tenant, args...);
  }
  template <class Tenant, class... Args>
  static rendering render_leading(const Tenant& tenant, const Args&... args) {
    return render_checked<&render_pattern>(tenant, args...);
  }

 private:
  template <auto Render, class Tenant, class... Args>
  static rendering render_checked(const Tenant& tenant, const Args&... args) {
    static_assert(std::same_as<Tenant, tenant_id>,
                  "tenantry: the first argument is a tenant_id, made where the access token is checked");
    static_assert(sizeof...(Args) <= info.arguments(), "tenantry: too many arguments for this schema's placeholders");
    static_assert(((text_argument<Args> || number_argument<Args>)&&...),
                  "tenantry: an argument of a schema is text or an integer (no bool, character or floating point)");
    if constexpr (std::same_as<Tenant, tenant_id> && sizeof...(Args) <= info.arguments() &&
                  ((text_argument<Args> || number_argument<Args>)&&...)) {
      check_numbers<Args...>(std::index_sequence_for<Args...>{});
      const std::array<argument_text, sizeof...(Args)> values{argument_text{args}...};
      return Render(info, tenant, values);
    } else {
      return {};
    }
  }

  template <class... Args, std::size_t... I>
  static constexpr void check_numbers(std::index_sequence<I...>) {
    static_assert(((info.argument(I).kind != segment_kind::number || number_argument<Args>)&&...),
                  "tenantry: a placeholder with a width, like {month:02}, takes an integer");
  }

  template <std::size_t... I>
  static parts make_parts(std::string_view tenant, [[maybe_unused]] std::span<const std::string_view> raw,
                          std::index_sequence<I...>) {
    return parts{key_access::tenant(tenant), {parsed_argument<info.argument(I).kind>::from(raw[I])...}};
  }
};

}  // namespace tenantry::detail
