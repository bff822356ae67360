#pragma once
// Values as JSON, by the functions to_json and from_json that nlohmann_json finds for them.

#include <tenantry/codec.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tenantry {

namespace detail {

/// Refuses what nlohmann's parser lets through: a zero byte, at which it stops, and nesting so deep that copying or
/// writing the value would exhaust the stack. Errors: std::invalid_argument.
inline void check_json_text(std::string_view bytes) {
  constexpr std::size_t max_depth = 512;
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    switch (bytes[i]) {
      case '\0':
        throw std::invalid_argument{"a zero byte in JSON"};
      case '"':
        in_string = !in_string;
        break;
      case '\\':
        i += in_string ? 1U : 0U;
        break;
      case '[':
      case '{':
        if (!in_string && ++depth > max_depth) throw std::invalid_argument{"JSON nested more than 512 deep"};
        break;
      case ']':
      case '}':
        if (!in_string && depth > 0) --depth;
        break;
      default:
        break;
    }
  }
}

/// What nlohmann says of a text that is no JSON quotes it, and goes into logs. Errors: std::invalid_argument.
inline nlohmann::json parsed_json(std::string_view bytes) {
  check_json_text(bytes);
  try {
    return nlohmann::json::parse(bytes);
  } catch (const nlohmann::json::parse_error& why) {
    throw std::invalid_argument{"no JSON at byte " + std::to_string(why.byte)};
  }
}

}  // namespace detail

/// Writes compact JSON and reads any JSON text that is nested at most 512 deep. Errors: nlohmann's own exceptions, and
/// std::invalid_argument.
///
///     struct kpi { int property_count = 0; };
///     NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, property_count)
template <class T>
struct json_codec {
  [[nodiscard]] std::string encode(const T& value) const { return nlohmann::json(value).dump(); }
  [[nodiscard]] T decode(std::string_view bytes) const { return detail::parsed_json(bytes).template get<T>(); }
};

}  // namespace tenantry
