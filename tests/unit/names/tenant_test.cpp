#include <tenantry/error.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <set>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <utility>

namespace tn = tenantry;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using namespace std::string_view_literals;

namespace {

constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

/// What the three ways to make a tenant id say of a text, which must be the same.
bool accepted(std::string_view id) {
  const bool valid = tn::tenant_id::valid(id);
  const auto parsed = tn::tenant_id::parse(id);
  CHECK(parsed.has_value() == valid);
  if (valid) {
    CHECK(tn::tenant_id{id}.str() == id);
    CHECK(parsed->str() == id);
  } else {
    CHECK_THROWS_AS(tn::tenant_id{id}, tn::invalid_name);
  }
  return valid;
}

}  // namespace

TEST_CASE("a tenant id holds A-Z a-z 0-9 . _ - and no other byte, anywhere in it") {
  for (unsigned value = 0; value < 256; ++value) {
    const char byte = static_cast<char>(static_cast<unsigned char>(value));
    CAPTURE(value);
    const bool expected = allowed.find(byte) != std::string_view::npos;
    CHECK(accepted(std::string{byte}) == expected);
    CHECK(accepted(std::string{"ac"} + byte) == expected);
    CHECK(accepted(std::string{"a"} + byte + "c") == expected);
    CHECK(accepted(byte + std::string{"ac"}) == expected);
  }
}

TEST_CASE("a tenant id has 1 to 64 bytes") {
  for (std::size_t size = 0; size <= 130; ++size) {
    CAPTURE(size);
    CHECK(accepted(std::string(size, 'x')) == (size >= 1 && size <= 64));
  }
  CHECK(tn::tenant_id::max_size == 64);
}

TEST_CASE("a tenant id is refused, never repaired") {
  for (const auto id : {" acme"sv, "acme "sv, "acme\n"sv, "acme\0"sv, "\0acme"sv, "ac:me"sv, "*"sv, "acme*"sv,
                        "{acme}"sv, "ac%3Ame"sv, "ac/me"sv, "acm\xc3\xa9"sv, "acme\xff"sv, "acme,other"sv}) {
    CAPTURE(id);
    CHECK_FALSE(accepted(id));
  }
  CHECK(tn::tenant_id{"ACME"} != tn::tenant_id{"acme"});
}

TEST_CASE("the error of a bad tenant id names the reason, the byte and its place") {
  CHECK_THROWS_MATCHES(tn::tenant_id{""}, tn::invalid_name, MessageMatches(ContainsSubstring("empty")));
  CHECK_THROWS_MATCHES(tn::tenant_id{std::string(65, 'x')}, tn::invalid_name, MessageMatches(ContainsSubstring("65")));
  CHECK_THROWS_MATCHES(tn::tenant_id{"ac:me"}, tn::invalid_name,
                       MessageMatches(ContainsSubstring("0x3a") && ContainsSubstring("at 2")));
  CHECK_THROWS_MATCHES(tn::tenant_id{"acme\xff"sv}, tn::invalid_name,
                       MessageMatches(ContainsSubstring("0xff") && ContainsSubstring("at 4")));
  CHECK_THROWS_MATCHES(tn::tenant_id{"\0"sv}, tn::invalid_name, MessageMatches(ContainsSubstring("0x00")));
}

TEST_CASE("the error of a bad tenant id is a tenantry::error of a command that was not sent") {
  try {
    const tn::tenant_id id{"*"};
    FAIL("made " << id.str());
  } catch (const tn::error& e) {
    CHECK(e.code() == tn::errc::invalid_name);
    CHECK(e.execution() == tn::execution::not_sent);
    CHECK_FALSE(e.retryable());
  }
}

TEST_CASE("a text becomes a tenant id only where the caller says so") {
  STATIC_CHECK_FALSE(std::is_convertible_v<const char*, tn::tenant_id>);
  STATIC_CHECK_FALSE(std::is_convertible_v<std::string, tn::tenant_id>);
  STATIC_CHECK_FALSE(std::is_default_constructible_v<tn::tenant_id>);
}

TEST_CASE("tenant ids compare, order and hash by their bytes") {
  const tn::tenant_id a{"acme"};
  const tn::tenant_id same{std::string{"acme"}};
  const tn::tenant_id longer{"acme2"};
  CHECK(a == same);
  CHECK(a != longer);
  CHECK(a < longer);
  CHECK((a <=> same) == 0);
  CHECK(tn::tenant_id{"B"} < tn::tenant_id{"a"});
  CHECK(std::hash<tn::tenant_id>{}(a) == std::hash<tn::tenant_id>{}(same));
  CHECK(std::unordered_set<tn::tenant_id>{a, same, longer}.size() == 2);
  CHECK(std::set<tn::tenant_id>{longer, a, same}.begin()->str() == "acme");
}

TEST_CASE("a tenant id that was moved from is still a tenant id") {
  tn::tenant_id short_id{"acme"};
  const tn::tenant_id first{std::move(short_id)};
  CHECK(tn::tenant_id::valid(short_id.str()));  // NOLINT(bugprone-use-after-move): that is the claim
  tn::tenant_id long_id{std::string(64, 'x')};
  tn::tenant_id second{"other"};
  second = std::move(long_id);
  CHECK(tn::tenant_id::valid(long_id.str()));  // NOLINT(bugprone-use-after-move)
  CHECK(first.str() == "acme");
  CHECK(second.str() == std::string(64, 'x'));
}
