#include "payloads.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>

namespace gateway {

namespace {

using nlohmann::json;

constexpr std::int64_t year_2000 = 946'684'800;  // Unix time in seconds
constexpr std::int64_t year_2100 = 4'102'444'800;
constexpr std::int64_t most_watt_hours = 1'000'000'000'000'000;
constexpr std::size_t max_text = 200;
constexpr int max_depth = 3;  // readings are objects in an array in an object

/// Gateways and meters are named as tenants are.
bool is_name(std::string_view text) noexcept { return tenantry::tenant_id::valid(text); }

struct address {
  tenantry::tenant_id tenant;
  std::string_view gateway;
  std::string_view kind;
};

address address_of(std::string_view topic) {
  const auto next = [&topic] {
    const std::size_t end = topic.find('/');
    const std::string_view level = topic.substr(0, end);
    topic = end == std::string_view::npos ? std::string_view{} : topic.substr(end + 1);
    return level;
  };
  const std::string_view first = next();
  const auto tenant = tenantry::tenant_id::parse(next());
  const std::string_view gateway = next();
  if (first != "mbus" || !tenant || !is_name(gateway) || (topic != "readings" && topic != "alarm")) {
    throw refused{refusal::topic, "the topic is not mbus/{tenant}/{gateway}/readings or mbus/{tenant}/{gateway}/alarm"};
  }
  return {.tenant = *tenant, .gateway = gateway, .kind = topic};
}

json object_of(std::string_view payload) {
  if (payload.size() > max_payload) throw refused{refusal::size, "the payload is larger than 64 KiB"};
  // The parser takes a zero byte for the end of the text.
  if (payload.find('\0') != std::string_view::npos) throw refused{refusal::json, "a zero byte in the payload"};
  bool too_deep = false;
  const auto shallow = [&too_deep](int depth, json::parse_event_t event, json&) {
    const bool opens = event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (opens && depth >= max_depth) too_deep = true;
    return !too_deep;  // what is deeper is not kept
  };
  json parsed = json::parse(payload.begin(), payload.end(), shallow, /*allow_exceptions=*/false);
  if (too_deep) throw refused{refusal::json, fmt::format("JSON nested more than {} deep", max_depth)};
  if (parsed.is_discarded()) throw refused{refusal::json, "the payload is no JSON"};
  if (!parsed.is_object()) throw refused{refusal::field, "the payload is no object"};
  return parsed;
}

const json& field(const json& of, const char* name) {
  const auto found = of.find(name);
  if (found == of.end()) throw refused{refusal::field, fmt::format("\"{}\" is missing", name)};
  return *found;
}

const std::string& text(const json& of, const char* name) {
  const json& value = field(of, name);
  if (!value.is_string()) throw refused{refusal::field, fmt::format("\"{}\" is no string", name)};
  return value.get_ref<const std::string&>();
}

const std::string& name(const json& of, const char* which) {
  const std::string& value = text(of, which);
  if (!is_name(value)) throw refused{refusal::field, fmt::format("\"{}\" is not 1-64 of [A-Za-z0-9._-]", which)};
  return value;
}

std::int64_t integer(const json& of, const char* name, std::int64_t low, std::int64_t high) {
  const json& value = field(of, name);
  if (!value.is_number_integer()) throw refused{refusal::field, fmt::format("\"{}\" is no integer", name)};
  const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high);
  if (huge || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
    throw refused{refusal::field, fmt::format("\"{}\" is not from {} to {}", name, low, high)};
  }
  return value.get<std::int64_t>();
}

report report_of(const json& from) {
  report made{.firmware = name(from, "firmware"), .readings = {}};
  const json& all = field(from, "readings");
  if (!all.is_array() || all.empty() || all.size() > max_readings) {
    throw refused{refusal::field, fmt::format("\"readings\" is no array of 1-{}", max_readings)};
  }
  made.readings.reserve(all.size());
  for (const json& one : all) {
    if (!one.is_object()) throw refused{refusal::field, "a reading is no object"};
    made.readings.push_back({.meter = name(one, "meter"),
                             .at = integer(one, "at", year_2000, year_2100),
                             .watt_hours = integer(one, "wh", 0, most_watt_hours)});
  }
  return made;
}

alarm alarm_of(const json& from, std::string_view gateway) {
  alarm made{.id = name(from, "id"),
             .gateway = std::string{gateway},
             .severity = text(from, "severity"),
             .text = text(from, "text"),
             .at = integer(from, "at", year_2000 * 1000, year_2100 * 1000)};
  if (made.severity != "info" && made.severity != "warning" && made.severity != "critical") {
    throw refused{refusal::field, "\"severity\" is none of info, warning, critical"};
  }
  if (made.text.empty() || made.text.size() > max_text) {
    throw refused{refusal::field, fmt::format("\"text\" is not 1-{} bytes", max_text)};
  }
  return made;
}

}  // namespace

std::string_view to_string(refusal why) noexcept {
  switch (why) {
    case refusal::topic:
      return "topic";
    case refusal::size:
      return "size";
    case refusal::json:
      return "json";
    case refusal::field:
      return "field";
    case refusal::foreign:
      return "foreign";
    case refusal::unknown_tenant:
      return "unknown_tenant";
    case refusal::unknown_gateway:
      return "unknown_gateway";
    case refusal::unknown_meter:
      return "unknown_meter";
  }
  return "?";
}

message parse(std::string_view topic, std::string_view payload) {
  const address to = address_of(topic);
  const json from = object_of(payload);
  const bool is_report = to.kind == "readings";
  // A report names its gateway; an alarm need not, but where it does it is held to it.
  if ((is_report || from.contains("gateway")) && text(from, "gateway") != to.gateway) {
    throw refused{refusal::foreign, "the payload is of another gateway than the topic"};
  }
  message made{.tenant = to.tenant, .gateway = std::string{to.gateway}, .what = {}};
  if (is_report) {
    made.what = report_of(from);
  } else {
    made.what = alarm_of(from, to.gateway);
  }
  return made;
}

std::string topic_of(const tenantry::tenant_id& tenant, std::string_view gateway, const report&) {
  return fmt::format("mbus/{}/{}/readings", tenant.str(), gateway);
}

std::string topic_of(const tenantry::tenant_id& tenant, std::string_view gateway, const alarm&) {
  return fmt::format("mbus/{}/{}/alarm", tenant.str(), gateway);
}

std::string payload_of(std::string_view gateway, const report& what) {
  json readings = json::array();
  for (const reading& one : what.readings) {
    readings.push_back({{"meter", one.meter}, {"at", one.at}, {"wh", one.watt_hours}});
  }
  return json{{"gateway", gateway}, {"firmware", what.firmware}, {"readings", std::move(readings)}}.dump();
}

std::string payload_of(const alarm& what) {
  return json{{"id", what.id}, {"severity", what.severity}, {"text", what.text}, {"at", what.at}}.dump();
}

}  // namespace gateway
