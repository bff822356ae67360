#pragma once
// One argument of a command or a schema, as the text that goes to Redis.

#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

namespace tenantry::detail {

template <class T>
concept text_argument = std::convertible_to<const T&, std::string_view> && !std::same_as<T, std::nullptr_t>;

template <class T>
concept number_argument =
    std::integral<T> && sizeof(T) <= 8 && !std::same_as<T, bool> && !std::same_as<T, char> &&
    !std::same_as<T, wchar_t> && !std::same_as<T, char8_t> && !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;

/// Keys, channels and their patterns, and tenants.
template <class T>
concept named_argument = requires(const T& name) {
  { name.str() } -> std::same_as<const std::string&>;
};

/// A view of the caller's bytes, or the digits of a number held here. Valid while the argument is.
// NOLINTBEGIN(cppcoreguidelines-pro-type-member-init): clearing digits_ would cost more than the rest
class argument_text {
 public:
  template <text_argument T>
  explicit argument_text(const T& text) {
    if constexpr (std::is_pointer_v<std::decay_t<T>>) {
      const char* const pointer = text;
      view_ = pointer == nullptr ? std::string_view{} : std::string_view{pointer};
    } else {
      view_ = text;
    }
  }
  template <named_argument T>
  explicit argument_text(const T& name) : view_{name.str()} {}
  template <class T>
    requires(number_argument<T> || std::floating_point<T>)
  explicit argument_text(T number) {
    const char* const end = std::to_chars(digits_.data(), digits_.data() + digits_.size(), number).ptr;
    digits_size_ = static_cast<std::size_t>(end - digits_.data());
  }

  [[nodiscard]] std::string_view text() const noexcept {
    return digits_size_ == 0 ? view_ : std::string_view{digits_.data(), digits_size_};
  }

 private:
  std::string_view view_;
  std::array<char, 48> digits_;  // only the first digits_size_ bytes are ever written and read
  std::size_t digits_size_ = 0;
};
// NOLINTEND(cppcoreguidelines-pro-type-member-init)

}  // namespace tenantry::detail
