#pragma once
// Values as JSON, by the functions to_json and from_json that nlohmann_json finds for them.

#include <tenantry/codec.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace tenantry {

/// Writes compact JSON and reads any JSON text. Errors: nlohmann's own exceptions.
///
///     struct kpi { int property_count = 0; };
///     NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(kpi, property_count)
template <class T>
struct json_codec {
  [[nodiscard]] std::string encode(const T& value) const { return nlohmann::json(value).dump(); }
  [[nodiscard]] T decode(std::string_view bytes) const { return nlohmann::json::parse(bytes).template get<T>(); }
};

}  // namespace tenantry
