#pragma once
// How a value becomes bytes in Redis and back.

#include <concepts>
#include <string>
#include <string_view>

namespace tenantry {

/// A codec of T: default-constructible and without state that changes, so that threads can share it.
///
/// `encode` may throw when a value has no representation; `decode` throws when bytes are not a value.
template <class Codec, class T>
concept codec_of =
    std::default_initializable<Codec> && requires(const Codec& codec, const T& value, std::string_view bytes) {
      { codec.encode(value) } -> std::convertible_to<std::string>;
      { codec.decode(bytes) } -> std::convertible_to<T>;
    };

/// Strings as they are.
struct string_codec {
  [[nodiscard]] std::string encode(std::string_view value) const { return std::string{value}; }
  [[nodiscard]] std::string decode(std::string_view bytes) const { return std::string{bytes}; }
};

/// JSON through nlohmann's to_json and from_json; include <tenantry/json_codec.hpp> to use it.
template <class T>
struct json_codec;

namespace detail {
template <class T>
struct default_codec {
  using type = json_codec<T>;
};
template <>
struct default_codec<std::string> {
  using type = string_codec;
};
}  // namespace detail

/// The codec that is used where none is named: string_codec for std::string, json_codec for any other type.
template <class T>
using default_codec = typename detail::default_codec<T>::type;

}  // namespace tenantry
