#pragma once
// Stamps: opaque tokens that say under which state of its tenant and tags a value was loaded.

#include <tenantry/tenant.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace tenantry::detail {

/// A random token of `token_size` characters, never the same twice in all processes together: 66 bits of the system's
/// entropy. Errors: std::exception where the system has none.
std::string random_token();

inline constexpr std::size_t token_size = 11;

/// The stamp of a tenant: `<hard>.<soft>.<tags>`. Tokens are only ever compared.
///
/// - hard changed: no value that was loaded under the old one is served again;
/// - soft changed: such a value is only served when its loader fails;
/// - tags changed: some tag of the tenant changed, so the value's own tags have to be looked at.
class tenant_stamp {
 public:
  static constexpr std::size_t size = 3 * token_size + 2;

  /// Nothing where the text is no stamp.
  static std::optional<tenant_stamp> parse(std::string_view text);
  static tenant_stamp make();
  /// What stands for a stamp where there is none.
  static tenant_stamp nobodys() { return tenant_stamp{"00000000000.00000000000.00000000000"}; }

  [[nodiscard]] std::string_view hard() const noexcept { return str().substr(0, token_size); }
  [[nodiscard]] std::string_view soft() const noexcept { return str().substr(token_size + 1, token_size); }
  [[nodiscard]] std::string_view tags() const noexcept { return str().substr(2 * (token_size + 1)); }
  [[nodiscard]] std::string_view str() const noexcept { return text_; }

  friend bool operator==(const tenant_stamp&, const tenant_stamp&) = default;

 private:
  explicit tenant_stamp(std::string_view text) : text_{text} {}

  std::string text_;
};

/// The stamp of a tag: `<hard>.<soft>`, with the meanings of the tenant's.
class tag_stamp {
 public:
  static constexpr std::size_t size = 2 * token_size + 1;

  static std::optional<tag_stamp> parse(std::string_view text);
  static tag_stamp make();

  [[nodiscard]] std::string_view hard() const noexcept { return str().substr(0, token_size); }
  [[nodiscard]] std::string_view soft() const noexcept { return str().substr(token_size + 1); }
  [[nodiscard]] std::string_view str() const noexcept { return text_; }

  friend bool operator==(const tag_stamp&, const tag_stamp&) = default;

 private:
  explicit tag_stamp(std::string_view text) : text_{text} {}

  std::string text_;
};

/// Keys: `stamp:{acme}`.
std::string stamp_key(const tenant_id& tenant);
/// Keys: `stamp:{acme}:tag:property%3A42`, in the slot of the tenant's stamp.
std::string tag_stamp_key(const tenant_id& tenant, std::string_view tag_name);

}  // namespace tenantry::detail
