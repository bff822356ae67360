// What the gateway takes in over MQTT, and what it refuses.

#include "payloads.hpp"

#include "support/random_bytes.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace {

using gateway::refusal;
using namespace std::string_view_literals;

constexpr auto report_topic = "mbus/acme/gw-1/readings";
constexpr auto alarm_topic = "mbus/acme/gw-1/alarm";
constexpr auto good_report =
    R"({"gateway":"gw-1","firmware":"1.4.2","readings":[{"meter":"m-12","at":1767225600,"wh":123456}]})";
constexpr auto good_alarm = R"({"id":"gw-1-7-c0ffee","severity":"warning","text":"Leak","at":1767225600000})";

std::optional<refusal> refusal_of(std::string_view topic, std::string_view payload) {
  try {
    (void)gateway::parse(topic, payload);
    return std::nullopt;
  } catch (const gateway::refused& no) {
    return no.why();
  }
}

/// The good payload with one piece replaced.
std::string with(std::string_view payload, std::string_view piece, std::string_view instead) {
  std::string text{payload};
  const auto at = text.find(piece);
  REQUIRE(at != std::string::npos);
  return text.replace(at, piece.size(), instead);
}

}  // namespace

TEST_CASE("a report is read as it was sent") {
  const gateway::message came = gateway::parse(report_topic, good_report);
  CHECK(came.tenant.str() == "acme");
  CHECK(came.gateway == "gw-1");
  const auto& what = std::get<gateway::report>(came.what);
  CHECK(what.firmware == "1.4.2");
  REQUIRE(what.readings.size() == 1);
  CHECK(what.readings[0].meter == "m-12");
  CHECK(what.readings[0].at == 1'767'225'600);
  CHECK(what.readings[0].watt_hours == 123'456);
}

TEST_CASE("an alarm is read as it was sent, and is of the topic's gateway") {
  const gateway::message came = gateway::parse(alarm_topic, good_alarm);
  const auto& what = std::get<gateway::alarm>(came.what);
  CHECK(what.id == "gw-1-7-c0ffee");
  CHECK(what.gateway == "gw-1");
  CHECK(what.severity == "warning");
  CHECK(what.text == "Leak");
  CHECK(what.at == 1'767'225'600'000);
}

TEST_CASE("what is rendered is read back") {
  support::random_bytes random;
  for (int i = 0; i < 200; ++i) {
    const tenantry::tenant_id tenant{random.tenant()};
    const std::string name = random.tenant();
    gateway::report sent{.firmware = random.tenant(), .readings = {}};
    for (std::size_t n = 1 + random.below(500); n > 0; --n) {
      sent.readings.push_back({.meter = random.text_of("m-0123456789", 1 + random.below(12)),
                               .at = 1'700'000'000 + static_cast<std::int64_t>(random.below(100'000'000)),
                               .watt_hours = static_cast<std::int64_t>(random.below(1'000'000'000'000'000))});
    }
    const auto came = gateway::parse(topic_of(tenant, name, sent), payload_of(name, sent));
    const auto& got = std::get<gateway::report>(came.what);
    CHECK(came.tenant == tenant);
    CHECK(came.gateway == name);
    CHECK(got.firmware == sent.firmware);
    REQUIRE(got.readings.size() == sent.readings.size());
    for (std::size_t n = 0; n < got.readings.size(); ++n) {
      CHECK(got.readings[n].meter == sent.readings[n].meter);
      CHECK(got.readings[n].at == sent.readings[n].at);
      CHECK(got.readings[n].watt_hours == sent.readings[n].watt_hours);
    }

    const gateway::alarm raised{.id = random.tenant(),
                                .gateway = name,
                                .severity = "critical",
                                .text = "72 °C \"hot\"\n\\",
                                .at = 1'700'000'000'000};
    const auto heard = gateway::parse(topic_of(tenant, name, raised), payload_of(raised));
    CHECK(std::get<gateway::alarm>(heard.what).id == raised.id);
    CHECK(std::get<gateway::alarm>(heard.what).text == raised.text);
  }
}

TEST_CASE("a topic that is none of ours is refused") {
  for (const auto topic :
       {""sv, "/"sv, "mbus"sv, "mbus/acme/gw-1"sv, "mbus/acme/gw-1/"sv, "mbus/acme/gw-1/reading"sv,
        "mbus/acme/gw-1/readings/"sv, "mbus/acme/gw-1/readings/x"sv, "/mbus/acme/gw-1/readings"sv,
        "mbus//gw-1/readings"sv, "mbus/acme//readings"sv, "mbus/ac:me/gw-1/readings"sv, "mbus/acme/gw 1/readings"sv,
        "mbus/*/gw-1/readings"sv, "knx/acme/gw-1/readings"sv, "mbus/acme/gw-1/alarms"sv,
        "mbus/acme/gw\0"
        "1/alarm"sv}) {
    CAPTURE(topic);
    CHECK(refusal_of(topic, good_report) == refusal::topic);
  }
  CHECK(refusal_of("mbus/" + std::string(65, 'a') + "/gw-1/readings", good_report) == refusal::topic);
  CHECK(refusal_of("mbus/acme/" + std::string(65, 'a') + "/readings", good_report) == refusal::topic);
}

TEST_CASE("a payload over 64 KiB is refused, and one of 64 KiB is read") {
  const std::string at_most =
      good_report + std::string(gateway::max_payload - std::string_view{good_report}.size(), ' ');
  CHECK(refusal_of(report_topic, at_most) == std::nullopt);
  CHECK(refusal_of(report_topic, at_most + ' ') == refusal::size);
}

TEST_CASE("what is no JSON is refused") {
  const std::string whole = good_report;
  CHECK(refusal_of(report_topic, "") == refusal::json);
  CHECK(refusal_of(report_topic, "{") == refusal::json);
  CHECK(refusal_of(report_topic, whole + "x") == refusal::json);
  CHECK(refusal_of(report_topic, whole + whole) == refusal::json);
  CHECK(refusal_of(report_topic, std::string(60'000, '[')) == refusal::json);
  CHECK(refusal_of(report_topic, std::string(30'000, '[') + std::string(30'000, ']')) == refusal::json);
  CHECK(refusal_of(report_topic, with(good_report, "123456", "[[1]]")) == refusal::json);
  CHECK(refusal_of(alarm_topic, with(good_alarm, "Leak", "\xff\xfe")) == refusal::json);
  for (std::size_t size = 0; size < whole.size(); ++size)
    CHECK(refusal_of(report_topic, whole.substr(0, size)) == refusal::json);
}

TEST_CASE("what comes after a zero byte is not ignored") {
  CHECK(refusal_of(report_topic, std::string{good_report} + '\0' + "x") == refusal::json);
  CHECK(refusal_of(report_topic, std::string{good_report} + '\0') == refusal::json);
}

TEST_CASE("a field that is missing, of another type or out of range is refused") {
  for (const auto* payload : {"null", "[]", "7", "\"\"", "{}"}) {
    CAPTURE(payload);
    CHECK(refusal_of(report_topic, payload) == refusal::field);
    CHECK(refusal_of(alarm_topic, payload) == refusal::field);
  }
  struct change {
    std::string_view piece;
    std::string_view instead;
  };
  for (const auto& [piece, instead] :
       std::initializer_list<change>{{R"("gateway")", R"("gate")"},
                                     {R"("gw-1")", "1"},
                                     {R"("firmware")", R"("firm")"},
                                     {R"("1.4.2")", R"("")"},
                                     {R"("1.4.2")", R"("a b")"},
                                     {R"("readings")", R"("reading")"},
                                     {R"({"meter")", R"({},{"meter")"},
                                     {R"({"meter")", R"(7,{"meter")"},
                                     {R"([{"meter":"m-12","at":1767225600,"wh":123456}])", "[]"},
                                     {R"([{"meter":"m-12","at":1767225600,"wh":123456}])", "{}"},
                                     {R"("m-12")", "12"},
                                     {R"("m-12")", R"("m:12")"},
                                     {R"("m-12")", R"("")"},
                                     {"1767225600", "17672256.5"},
                                     {"1767225600", R"("1767225600")"},
                                     {"1767225600", "1767225600000"},
                                     {"1767225600", "-1"},
                                     {"123456", "-1"},
                                     {"123456", "1e5"},
                                     {"123456", "18446744073709551615"},
                                     {"123456", "1000000000000001"},
                                     {"123456", "true"},
                                     {"123456", "null"},
                                     {R"("wh")", R"("kwh")"}}) {
    CAPTURE(piece, instead);
    CHECK(refusal_of(report_topic, with(good_report, piece, instead)) == refusal::field);
  }
  const std::string long_text = '"' + std::string(201, 'x') + '"';
  for (const auto& [piece, instead] : std::initializer_list<change>{{R"("id")", R"("no")"},
                                                                    {R"("gw-1-7-c0ffee")", R"("")"},
                                                                    {R"("gw-1-7-c0ffee")", R"("a/b")"},
                                                                    {R"("gw-1-7-c0ffee")", "7"},
                                                                    {"warning", "fatal"},
                                                                    {R"("Leak")", R"("")"},
                                                                    {R"("Leak")", long_text},
                                                                    {R"("Leak")", "null"},
                                                                    {"1767225600000", "1767225600"},
                                                                    {"1767225600000", "1e12"}}) {
    CAPTURE(piece, instead);
    CHECK(refusal_of(alarm_topic, with(good_alarm, piece, instead)) == refusal::field);
  }
}

TEST_CASE("more than 500 readings are refused") {
  gateway::report many{.firmware = "1",
                       .readings = std::vector<gateway::reading>(500, {.meter = "m", .at = 1'700'000'000})};
  CHECK(refusal_of(report_topic, payload_of("gw-1", many)) == std::nullopt);
  many.readings.push_back(many.readings.front());
  CHECK(refusal_of(report_topic, payload_of("gw-1", many)) == refusal::field);
}

TEST_CASE("a payload of another gateway than the topic's is foreign") {
  CHECK(refusal_of("mbus/acme/gw-2/readings", good_report) == refusal::foreign);
  CHECK(refusal_of(alarm_topic, with(good_alarm, "{", R"({"gateway":"gw-2",)")) == refusal::foreign);
  CHECK(refusal_of(alarm_topic, with(good_alarm, "{", R"({"gateway":"gw-1",)")) == std::nullopt);
}

TEST_CASE("any bytes are read or refused") {
  support::random_bytes random;
  const std::array<std::string_view, 2> good{good_report, good_alarm};
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t which = random.below(2);
    std::string payload = random.below(4) == 0 ? random.bytes(random.below(64)) : std::string{good.at(which)};
    for (std::size_t n = random.below(4); n > 0 && !payload.empty(); --n) {
      payload[random.below(payload.size())] = random.bytes(1)[0];
    }
    const std::string topic = random.below(8) == 0 ? random.id() : std::string{which == 0 ? report_topic : alarm_topic};
    CHECK_NOTHROW((void)refusal_of(topic, payload));
  }
}

TEST_CASE("a refusal does not quote the payload") {
  try {
    (void)gateway::parse(alarm_topic, with(good_alarm, "warning", "s3cret"));
    FAIL("it was read");
  } catch (const gateway::refused& no) {
    CHECK(std::string_view{no.what()}.find("s3cret") == std::string_view::npos);
  }
}
