#include "../../../examples/schemas.hpp"

#include <tenantry/error.hpp>
#include <tenantry/key_schema.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>

namespace tn = tenantry;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using tn::detail::schema_defect;
using namespace std::string_view_literals;

namespace {

const tn::tenant_id acme{"acme"};

constexpr tn::key_schema<"a:{tenant}:{x}"> one;
constexpr tn::key_schema<"a:{tenant}:{x}:{y}"> two;
constexpr tn::key_schema<"n:{tenant}:{count:03}"> three_digits;
constexpr tn::key_schema<"n:{tenant}:{count:01}"> one_digit;
constexpr tn::key_schema<"n:{tenant}:{count:019}"> most_digits;
constexpr tn::key_schema<"m:{tenant}:{x}:mid:{y}:{z}:end"> around;

schema_defect defect_of(std::string_view text) { return tn::detail::read_schema(text, false).defect; }

}  // namespace

TEST_CASE("the example schemas render the table of names") {
  CHECK(schemas::portfolio_kpi(acme).str() == "kpi:acme:portfolio");
  CHECK(schemas::gateway_health(acme, "gw-7").str() == "health:acme:gateway:gw-7");
  CHECK(schemas::reading_monthly(acme, "u1", 2026, 3).str() == "readings:acme:monthly:u1:2026:03");
  CHECK(schemas::settlement_pdf(acme, "s9").str() == "pdf:acme:settlement:s9");
  CHECK(schemas::alarms(acme).str() == "alarms:acme");
}

TEST_CASE("a schema is stateless and knows its text") {
  STATIC_CHECK(std::is_empty_v<decltype(schemas::reading_monthly)>);
  STATIC_CHECK(schemas::portfolio_kpi.text() == "kpi:{tenant}:portfolio");
}

TEST_CASE("tenant placement puts the tenant, and nothing else, in braces") {
  constexpr tn::key_schema<"a:{tenant}:{x}", tn::placement::tenant> together;
  CHECK(together(acme, "u{1}").str() == "a:{acme}:u%7B1%7D");
  CHECK(together.all(acme).str() == "a:{acme}:*");
  CHECK(together.parse("a:{acme}:u")->tenant() == acme);
  for (const auto text : {"a:acme:u"sv, "a:{acme:u"sv, "a:acme}:u"sv, "a:{}:u"sv, "a:{{acme}}:u"sv, "a:{:u"sv,
                          "a:}:u"sv, "a:{ac}me}:u"sv, "a:{acme}#lease"sv}) {
    CAPTURE(text);
    CHECK_FALSE(together.parse(text));
  }
  CHECK_FALSE(one.parse("a:{acme}:u"));
}

TEST_CASE("exactly the bytes that could mean something are percent-encoded, in upper case") {
  constexpr std::string_view special = "%:#*?[]\\{} ";
  constexpr std::string_view digits = "0123456789ABCDEF";
  for (unsigned value = 0; value < 256; ++value) {
    CAPTURE(value);
    const char byte = static_cast<char>(static_cast<unsigned char>(value));
    const bool encoded = value < 0x20 || value >= 0x7f || special.find(byte) != std::string_view::npos;
    const std::string expected = encoded ? std::string{'%', digits[value / 16], digits[value % 16]} : std::string{byte};
    const std::string text{'x', byte, 'y'};
    CHECK(one(acme, text).str() == "a:acme:x" + expected + "y");
    CHECK(one.all(acme, text).str() == one(acme, text).str());
    const auto parsed = one.parse("a:acme:x" + expected + "y");
    REQUIRE(parsed);
    CHECK(parsed->get<"x">() == text);
    if (encoded) {
      CHECK_FALSE(one.parse("a:acme:x" + text));
    } else {
      const std::string needless{'x', '%', digits[value / 16], digits[value % 16]};
      CHECK_FALSE(one.parse("a:acme:" + needless));
    }
  }
}

TEST_CASE("a text that looks encoded is text") {
  CHECK(one(acme, "%3A").str() == "a:acme:%253A");
  CHECK(one(acme, ":").str() == "a:acme:%3A");
  CHECK(one.parse("a:acme:%253A")->get<"x">() == "%3A");
}

TEST_CASE("parse refuses what rendering would not have written") {
  for (const auto text :
       {""sv,           "a"sv,          "a:"sv,         "a:acme"sv,     "a:acme:"sv,     "a:acme:x:"sv,
        "a:acme:x:y"sv, ":acme:x"sv,    "a::x"sv,       "b:acme:x"sv,   "A:acme:x"sv,    "aa:acme:x"sv,
        " a:acme:x"sv,  "a:acme:x "sv,  "a:ac me:x"sv,  "a:ac%6De:x"sv, "a:*:x"sv,       "a:acme:*"sv,
        "a:acme:%"sv,   "a:acme:%3"sv,  "a:acme:%3a"sv, "a:acme:%3G"sv, "a:acme:%%3A"sv, "a:acme:%41"sv,
        "a:acme:% 3"sv, "a:acme:%+3"sv, "a:acme:x%"sv,  "a:acme:x%2"sv, "a:acme:%2\0"sv, "a:acme:\0"sv,
        "a:acme:x\0"sv, "a:acme:\xff"sv}) {
    CAPTURE(text);
    CHECK_FALSE(one.parse(text));
  }
  CHECK_FALSE(one.parse("a:" + std::string(65, 't') + ":x"));
  CHECK(one.parse("a:" + std::string(64, 't') + ":x"));
  CHECK_FALSE(around.parse("m:acme:x:mad:y:z:end"));
  CHECK_FALSE(around.parse("m:acme:x:mid:y:z"));
  CHECK_FALSE(around.parse("m:acme:x:mid:y:z:end:end"));
  CHECK(around.parse("m:acme:x:mid:y:z:end"));
}

TEST_CASE("parsed arguments are found by name and by place, with their types") {
  const auto parts = schemas::reading_monthly.parse("readings:acme:monthly:unit-7:2026:03");
  REQUIRE(parts);
  CHECK(parts->tenant() == acme);
  CHECK(parts->get<"unit">() == "unit-7");
  CHECK(parts->get<"year">() == "2026");
  CHECK(parts->get<"month">() == 3);
  STATIC_CHECK(std::is_same_v<decltype(parts->get<"month">()), const std::uint64_t&>);
  CHECK(parts->arguments() == std::tuple{std::string{"unit-7"}, std::string{"2026"}, std::uint64_t{3}});
}

TEST_CASE("an empty text is refused, and the error names the placeholder") {
  CHECK_THROWS_MATCHES(two(acme, "", "y"), tn::invalid_name, MessageMatches(ContainsSubstring("argument x is empty")));
  CHECK_THROWS_MATCHES(two(acme, "x", std::string{}), tn::invalid_name,
                       MessageMatches(ContainsSubstring("argument y is empty")));
  CHECK_THROWS_MATCHES(two.all(acme, std::string_view{}), tn::invalid_name, MessageMatches(ContainsSubstring("x")));
  const char* const null = nullptr;
  CHECK_THROWS_AS(one(acme, null), tn::invalid_name);
}

TEST_CASE("nullptr is not a text") {
  // It would convert to a std::string_view, whose constructor then reads from it.
  CHECK_FALSE(tn::detail::text_argument<std::nullptr_t>);
}

TEST_CASE("any kind of text is an argument, with its NUL bytes") {
  const std::string text{"u\0v"sv};
  CHECK(one(acme, text).str() == "a:acme:u%00v");
  CHECK(one(acme, std::string_view{text}).str() == "a:acme:u%00v");
  char buffer[] = "unit";
  char* const pointer = buffer;
  CHECK(one(acme, buffer).str() == "a:acme:unit");
  CHECK(one(acme, pointer).str() == "a:acme:unit");
}

TEST_CASE("an integer given to a plain placeholder is its decimal text") {
  CHECK(one(acme, 7).str() == one(acme, "7").str());
  CHECK(one(acme, 0).str() == "a:acme:0");
  CHECK(one(acme, -7).str() == "a:acme:-7");
  CHECK(one(acme, std::uint8_t{65}).str() == "a:acme:65");
  CHECK(one(acme, std::int8_t{-128}).str() == "a:acme:-128");
  CHECK(one(acme, std::numeric_limits<std::int64_t>::min()).str() == "a:acme:-9223372036854775808");
  CHECK(one(acme, std::numeric_limits<std::uint64_t>::max()).str() == "a:acme:18446744073709551615");
}

TEST_CASE("a number is padded to its width, and longer where it needs more digits") {
  CHECK(three_digits(acme, 0).str() == "n:acme:000");
  CHECK(three_digits(acme, 7).str() == "n:acme:007");
  CHECK(three_digits(acme, 999).str() == "n:acme:999");
  CHECK(three_digits(acme, 1000).str() == "n:acme:1000");
  CHECK(three_digits(acme, UINT64_MAX).str() == "n:acme:18446744073709551615");
  CHECK(one_digit(acme, 0).str() == "n:acme:0");
  CHECK(most_digits(acme, 1).str() == "n:acme:0000000000000000001");
  CHECK(most_digits(acme, UINT64_MAX).str() == "n:acme:18446744073709551615");
  CHECK(three_digits(acme, static_cast<signed char>(7)).str() == "n:acme:007");
}

TEST_CASE("only the canonical form of a number is parsed") {
  CHECK(three_digits.parse("n:acme:007")->get<"count">() == 7);
  CHECK(three_digits.parse("n:acme:1000")->get<"count">() == 1000);
  CHECK(three_digits.parse("n:acme:18446744073709551615")->get<"count">() == UINT64_MAX);
  CHECK(most_digits.parse("n:acme:9999999999999999999")->get<"count">() == 9'999'999'999'999'999'999U);
  CHECK(one_digit.parse("n:acme:0")->get<"count">() == 0);
  for (const auto digits : {""sv, "7"sv, "07"sv, "0007"sv, "0123"sv, "-07"sv, "+07"sv, " 07"sv, "07 "sv, "00a"sv,
                            "0x7"sv, "1e3"sv, "%30%30%37"sv, "18446744073709551616"sv, "99999999999999999999"sv,
                            "018446744073709551615"sv, "100000000000000000000"sv, "00\0"sv}) {
    CAPTURE(digits);
    CHECK_FALSE(three_digits.parse("n:acme:" + std::string{digits}));
  }
  CHECK_FALSE(one_digit.parse("n:acme:00"));
  CHECK_FALSE(most_digits.parse("n:acme:000000000000000001"));
  CHECK_FALSE(most_digits.parse("n:acme:00000000000000000001"));
}

TEST_CASE("a negative number is refused, and the error names the placeholder") {
  CHECK_THROWS_MATCHES(three_digits(acme, -1), tn::invalid_name, MessageMatches(ContainsSubstring("argument count")));
  CHECK_THROWS_MATCHES(schemas::reading_monthly(acme, "u", 2026, -3), tn::invalid_name,
                       MessageMatches(ContainsSubstring("argument month")));
  CHECK_THROWS_AS(three_digits(acme, std::numeric_limits<std::int64_t>::min()), tn::invalid_name);
  CHECK_THROWS_AS(three_digits.all(acme, -1), tn::invalid_name);
}

TEST_CASE("a pattern folds open placeholders at its end into one star") {
  CHECK(schemas::portfolio_kpi.all(acme).str() == "kpi:acme:portfolio");
  CHECK(schemas::reading_monthly.all(acme).str() == "readings:acme:monthly:*");
  CHECK(schemas::reading_monthly.all(acme, "u*").str() == "readings:acme:monthly:u%2A:*");
  CHECK(schemas::reading_monthly.all(acme, "u", 2026).str() == "readings:acme:monthly:u:2026:*");
  CHECK(schemas::reading_monthly.all(acme, "u", 2026, 3).str() == "readings:acme:monthly:u:2026:03");
  CHECK(around.all(acme).str() == "m:acme:*:mid:*:*:end");
  CHECK(around.all(acme, "x").str() == "m:acme:x:mid:*:*:end");
  CHECK(around.all(acme, "x", "y", "z").str() == "m:acme:x:mid:y:z:end");
  CHECK(around.all(acme).tenant() == acme);
}

TEST_CASE("an id that begins like another does not match the other's pattern") {
  CHECK(two.all(acme, "u1").matches(two(acme, "u1", "x").str()));
  CHECK_FALSE(two.all(acme, "u1").matches(two(acme, "u10", "x").str()));
  CHECK_FALSE(two.all(acme, "u1").matches(two(acme, "u", "1").str()));
  CHECK_FALSE(two.all(acme, "*").matches(two(acme, "u1", "x").str()));
}

TEST_CASE("an id with a tenant's name reaches no key of that tenant") {
  const tn::tenant_id other{"other"};
  for (const auto id : {"*:other:*"sv, "other"sv, "x:other"sv, "\nother"sv, "*"sv, "[o]ther"sv}) {
    CHECK_FALSE(two.all(acme, id).matches(two(other, id, id).str()));
    CHECK_FALSE(two.all(other).matches(two(acme, id, id).str()));
  }
}

TEST_CASE("a schema without fault is read as such") {
  for (const auto text :
       {"a:{tenant}"sv, "a:{tenant}:b"sv, "a:{tenant}:{b}:{c_2:019}"sv, "a:{tenant}:/api/kpi"sv, "stamps:{tenant}"sv,
        "logs:{tenant}"sv, "Stamp:{tenant}"sv, "a:{tenant}:{_}"sv, "a:{tenant}:{n:010}"sv, "a:{tenant}:stamp"sv}) {
    CAPTURE(text);
    CHECK(defect_of(text) == schema_defect::none);
  }
  CHECK(defect_of("a:{tenant}:1:2:3:4:5:6:7:8:9:10:11:12:13:14") == schema_defect::none);
  CHECK(defect_of("a:{tenant}:" + std::string(117, 'x')) == schema_defect::none);
}

TEST_CASE("the library's prefixes are reserved") {
  for (const std::string prefix : {"stamp", "log", "ratelimit", "permits"}) {
    CAPTURE(prefix);
    CHECK(defect_of(prefix + ":{tenant}") == schema_defect::reserved_prefix);
    CHECK(defect_of(prefix + ":{tenant}:tag:{name}") == schema_defect::reserved_prefix);
  }
}

TEST_CASE("a schema's tenant is its second segment, once") {
  for (const auto text :
       {"a"sv, "a:b"sv, "a:b:{tenant}"sv, "a:{x}:b"sv, "a:tenant"sv, "a:{Tenant}"sv, "a:{x}:{tenant}"sv, "{tenant}"sv,
        "{tenant}:a"sv, "{x}:{tenant}"sv, "{tenant}:{tenant}"sv, "a:{tenant}:{tenant}"sv, "a:{tenant:02}"sv,
        "a:{tenant}x"sv, "a:x{tenant}"sv, "a{tenant}"sv, "a:{{tenant}}"sv}) {
    CAPTURE(text);
    CHECK(defect_of(text) != schema_defect::none);
  }
}

TEST_CASE("a schema with a fault anywhere is not accepted") {
  for (const auto text : {""sv,
                          ":"sv,
                          "a:{tenant}:"sv,
                          "a::{tenant}"sv,
                          ":{tenant}"sv,
                          "a:{tenant}::b"sv,
                          "a:{tenant}:{}"sv,
                          "a:{tenant}:{X}"sv,
                          "a:{tenant}:{x y}"sv,
                          "a:{tenant}:{x-y}"sv,
                          "a:{tenant}:{x"sv,
                          "a:{tenant}:x}"sv,
                          "a:{tenant}:{x}{y}"sv,
                          "a:{tenant}:gw-{x}"sv,
                          "a:{tenant}:{x}:{x}"sv,
                          "a:{tenant}:{x}:{x:02}"sv,
                          "a:{tenant}:{x:}"sv,
                          "a:{tenant}:{x:0}"sv,
                          "a:{tenant}:{x:2}"sv,
                          "a:{tenant}:{x:00}"sv,
                          "a:{tenant}:{x:020}"sv,
                          "a:{tenant}:{x:0100}"sv,
                          "a:{tenant}:{x:02d}"sv,
                          "a:{tenant}:{x:-2}"sv,
                          "a:{tenant}:{x:02:02}"sv,
                          "a b:{tenant}"sv,
                          "a*:{tenant}"sv,
                          "a:{tenant}:*"sv,
                          "a:{tenant}:?"sv,
                          "a:{tenant}:[b]"sv,
                          "a:{tenant}:b#c"sv,
                          "a:{tenant}:%41"sv,
                          "a:{tenant}:\\b"sv,
                          "a:{tenant}:\x01"sv,
                          "a:{tenant}:\x7f"sv,
                          "a:{tenant}:\xc3\xa9"sv,
                          "a:{tenant}:b\0"sv,
                          "a:{tenant}:1:2:3:4:5:6:7:8:9:10:11:12:13:14:15"sv}) {
    CAPTURE(text);
    CHECK(defect_of(text) != schema_defect::none);
  }
  CHECK(defect_of("a:{tenant}:" + std::string(118, 'x')) != schema_defect::none);
}
