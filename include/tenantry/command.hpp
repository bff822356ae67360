#pragma once
// A Redis command, encoded once.

#include <tenantry/detail/argument_text.hpp>
#include <tenantry/detail/rendered_name.hpp>
#include <tenantry/export.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tenantry {

namespace detail {
template <class T>
concept command_argument = text_argument<T> || named_argument<T> || number_argument<T> || std::floating_point<T>;
}

/// A command and its arguments in the bytes of RESP2. Arguments are copied and may hold any bytes.
///
///     command set{"SET", k, value, "PX", 300'000};
///
/// An argument is text, a key, channel or pattern, or a number (as the shortest decimal text that gives it back).
/// Cost: one allocation.
/// Source: Redis serialization protocol, RESP2 (all servers).
class TENANTRY_EXPORT command {
 public:
  template <class... Args>
  explicit command(std::string_view name, const Args&... args) {
    static_assert((detail::command_argument<Args> && ...),
                  "tenantry: an argument of a command is text, a key, channel or pattern, or a number");
    if constexpr ((detail::command_argument<Args> && ...)) {
      const std::array<detail::argument_text, sizeof...(Args)> words{detail::argument_text{args}...};
      encode(name, words);
    }
  }

  /// The command of these words, the first of which is its name. Errors: invalid_option when there is none.
  explicit command(std::span<const std::string_view> words);

  /// The name as given: "GET"; nothing in a command that was moved away.
  [[nodiscard]] std::string_view name() const noexcept { return word(name_); }
  /// The first argument after the name, or nothing: "REPLY" of `CLIENT REPLY OFF`.
  [[nodiscard]] std::string_view first_argument() const noexcept { return word(first_); }
  /// The whole command as it goes to the server.
  [[nodiscard]] std::string_view bytes() const noexcept { return bytes_; }

 private:
  struct place {
    std::size_t begin = 0;
    std::size_t size = 0;
  };

  template <class Words>
  void encode_words(std::string_view name, const Words& words);
  void encode(std::string_view name, std::span<const detail::argument_text> words);
  [[nodiscard]] std::string_view word(place at) const noexcept {
    return at.begin + at.size <= bytes_.size() ? std::string_view{bytes_}.substr(at.begin, at.size)
                                               : std::string_view{};
  }

  std::string bytes_;
  place name_;
  place first_;
};

}  // namespace tenantry
