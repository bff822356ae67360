#pragma once
// A reply of the server, decoded and owned.

#include <tenantry/export.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tenantry {

/// The types of RESP2.
enum class reply_type : unsigned char { nil, status, string, integer, array, error };

/// The type in words, for messages: "an integer".
TENANTRY_EXPORT std::string_view to_string(reply_type type) noexcept;

/// What a reply may announce before its connection is closed. Checked at each header, so that nothing is allocated for
/// bytes that have not arrived.
struct reply_limits {
  std::size_t bytes = 64U << 20U;    ///< one whole reply
  std::size_t elements = 1U << 20U;  ///< of all its arrays together
  std::size_t line = 64U << 10U;     ///< a status, error, integer or header
  std::size_t depth = 8;             ///< arrays in arrays; 8 is also the most
};

/// One reply. A plain value: safe to keep, copy and move.
///
/// The accessors throw `error` with code unexpected_reply (execution: executed) when the reply has another type.
class TENANTRY_EXPORT reply {
 public:
  reply() noexcept = default;
  static reply make_text(reply_type type, std::string_view text);  ///< status, string or error
  static reply make_integer(std::int64_t value) noexcept;
  static reply make_array(std::size_t size);

  [[nodiscard]] reply_type type() const noexcept { return type_; }
  [[nodiscard]] bool is_nil() const noexcept { return type_ == reply_type::nil; }
  [[nodiscard]] bool is_error() const noexcept { return type_ == reply_type::error; }

  /// The bytes of a string or a status.
  [[nodiscard]] const std::string& str() const&;
  [[nodiscard]] std::string str() &&;
  [[nodiscard]] std::int64_t integer() const;
  [[nodiscard]] const std::vector<reply>& elements() const&;
  [[nodiscard]] std::vector<reply> elements() &&;
  /// For whoever fills an array made by `make_array`.
  [[nodiscard]] reply& element(std::size_t index);
  /// The server's words of an error reply: "WRONGTYPE Operation against ...".
  [[nodiscard]] const std::string& error_text() const;

  /// The element at `index`. Errors: also when there is none.
  [[nodiscard]] const reply& operator[](std::size_t index) const;

  friend bool operator==(const reply& a, const reply& b);

 private:
  [[nodiscard]] const std::string& text_of(bool wanted, std::string_view what) const;

  reply_type type_ = reply_type::nil;
  std::variant<std::monostate, std::int64_t, std::string, std::vector<reply>> value_;
};

}  // namespace tenantry
