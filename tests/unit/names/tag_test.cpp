#include <tenantry/error.hpp>
#include <tenantry/tag.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <set>
#include <string>

namespace tn = tenantry;
using namespace std::string_view_literals;

TEST_CASE("the same name under another tenant is another tag") {
  const tn::tenant_id acme{"acme"};
  const tn::tenant_id acme2{"acme2"};
  CHECK(tn::tag{acme, "property:42"} == tn::tag{acme, "property:42"});
  CHECK(tn::tag{acme, "property:42"} != tn::tag{acme2, "property:42"});
  CHECK(tn::tag{acme, "property:42"} != tn::tag{acme, "property:43"});
  CHECK(tn::tag{acme, "2x"} != tn::tag{acme2, "x"});
}

TEST_CASE("a tag's name holds any bytes, unchanged") {
  const tn::tenant_id acme{"acme"};
  for (const auto name :
       {"property:42"sv, "\0"sv, "a\0b"sv, "\xff\xfe"sv, "*"sv, "{x}"sv, " "sv, "%3A"sv, "\xe2\x82\xac"sv}) {
    const tn::tag t{acme, name};
    CHECK(t.name() == name);
    CHECK(t.tenant() == acme);
  }
  CHECK(tn::tag{acme, "a\0b"sv} != tn::tag{acme, "a"sv});
}

TEST_CASE("a tag without a name is refused, and the error names the tenant") {
  CHECK_THROWS_AS((tn::tag{tn::tenant_id{"acme"}, ""}), tn::invalid_name);
  CHECK_THROWS_MATCHES((tn::tag{tn::tenant_id{"acme"}, ""}), tn::error,
                       Catch::Matchers::MessageMatches(Catch::Matchers::ContainsSubstring("acme")));
}

TEST_CASE("tags order by tenant, then by name") {
  const tn::tenant_id a{"a"};
  const tn::tenant_id b{"b"};
  const std::set<tn::tag> tags{{b, "1"}, {a, "2"}, {a, "1"}, {a, "2"}};
  CHECK(tags.size() == 3);
  CHECK(*tags.begin() == tn::tag{a, "1"});
  CHECK(*tags.rbegin() == tn::tag{b, "1"});
}
