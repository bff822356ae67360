#include <tenantry/catalog.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <string>
#include <support/random_bytes.hpp>
#include <support/schema_arguments.hpp>
#include <vector>

namespace tn = tenantry;
using namespace std::string_view_literals;

namespace {

constexpr tn::key_schema<"kpi:{tenant}:portfolio"> portfolio;
constexpr tn::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> monthly;
constexpr tn::key_schema<"readings:{tenant}:daily:{unit}", tn::placement::tenant> daily;
constexpr tn::key_schema<"pdf:{tenant}:{kind}:of:{settlement}"> pdf;
constexpr tn::key_schema<"other:{tenant}:{x}"> other;

const tn::tenant_id acme{"acme"};
const tn::tenant_id acme2{"acme2"};

bool overlap(std::string_view a, std::string_view b, bool a_in_braces = false, bool b_in_braces = false) {
  const auto first = tn::detail::read_schema(a, a_in_braces);
  const auto second = tn::detail::read_schema(b, b_in_braces);
  REQUIRE(first.defect == tn::detail::schema_defect::none);
  REQUIRE(second.defect == tn::detail::schema_defect::none);
  const bool result = tn::detail::overlap(tn::detail::glob_text{first}, tn::detail::glob_text{second});
  CHECK(tn::detail::overlap(tn::detail::glob_text{second}, tn::detail::glob_text{first}) == result);
  return result;
}

}  // namespace

TEST_CASE("a catalog holds what one of its schemas rendered for this very tenant") {
  const tn::catalog keys{portfolio, monthly, daily, pdf};
  CHECK(keys.holds(acme, portfolio(acme).str()));
  CHECK(keys.holds(acme, monthly(acme, "u:1", 2026, 3).str()));
  CHECK(keys.holds(acme, daily(acme, "\xff").str()));
  CHECK(keys.holds(acme, pdf(acme, "a", "b").str()));

  CHECK_FALSE(keys.holds(acme2, portfolio(acme).str()));
  CHECK_FALSE(keys.holds(acme, portfolio(acme2).str()));
  CHECK_FALSE(keys.holds(acme, other(acme, "x").str()));
  CHECK_FALSE(keys.holds(acme, portfolio(acme).companion("lease")));
  CHECK_FALSE(keys.holds(acme, daily(acme, "u").companion("lease")));
  for (const auto text :
       {""sv, "acme"sv, "kpi:acme"sv, "kpi:acme:portfolio:x"sv, "kpi:{acme}:portfolio"sv, "readings:acme:daily:u"sv,
        "readings:acme:monthly:u:2026:3"sv, "stamp:{acme}"sv, "log:{acme}:alarms"sv, "kpi:acme:portfolio\0"sv}) {
    CAPTURE(text);
    CHECK_FALSE(keys.holds(acme, text));
  }
}

TEST_CASE("a catalog gives one pattern per schema, in their order, all of the tenant") {
  const tn::catalog keys{monthly, portfolio, pdf, daily};
  const std::vector<tn::key_pattern> patterns = keys.patterns(acme);
  REQUIRE(patterns.size() == 4);
  CHECK(patterns[0] == monthly.all(acme));
  CHECK(patterns[1] == portfolio.all(acme));
  CHECK(patterns[2] == pdf.all(acme));
  CHECK(patterns[3] == daily.all(acme));
  for (const tn::key_pattern& p : patterns) CHECK(p.tenant() == acme);
}

TEST_CASE("a catalog knows the patterns of its schemas, however many arguments these were given") {
  const tn::catalog keys{portfolio, monthly, daily, pdf};
  CHECK(keys.makes(portfolio.all(acme)));
  CHECK(keys.makes(monthly.all(acme)));
  CHECK(keys.makes(monthly.all(acme, "*")));
  CHECK(keys.makes(monthly.all(acme, "u", 2026)));
  CHECK(keys.makes(monthly.all(acme, "u", 2026, 3)));
  CHECK(keys.makes(daily.all(acme)));
  CHECK(keys.makes(daily.all(acme, "u")));
  CHECK(keys.makes(pdf.all(acme)));
  CHECK(keys.makes(pdf.all(acme, "k")));
  CHECK(keys.makes(pdf.all(acme, "k", "s")));
}

TEST_CASE("a catalog refuses patterns that none of its schemas makes") {
  constexpr tn::key_schema<"readings:{tenant}:daily:{unit}"> daily_spread;
  constexpr tn::key_schema<"readings:{tenant}:monthly"> shorter;
  constexpr tn::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}:{day:02}"> longer;
  constexpr tn::key_schema<"pdf:{tenant}:{kind}:of"> cut;
  constexpr tn::key_schema<"pdf:{tenant}:{kind}:of:{x}:{y}"> pdf_longer;
  constexpr tn::key_schema<"kpi:{tenant}"> prefix_only;
  const tn::catalog keys{portfolio, monthly, daily, pdf};
  CHECK_FALSE(keys.makes(other.all(acme)));
  CHECK_FALSE(keys.makes(other.all(acme, "x")));
  CHECK_FALSE(keys.makes(daily_spread.all(acme)));
  CHECK_FALSE(keys.makes(daily_spread.all(acme, "u")));
  CHECK_FALSE(keys.makes(shorter.all(acme)));
  CHECK_FALSE(keys.makes(longer.all(acme, "u", 2026, 3)));
  CHECK_FALSE(keys.makes(longer.all(acme, "u", 2026, 3, 4)));
  CHECK_FALSE(keys.makes(cut.all(acme)));
  CHECK_FALSE(keys.makes(cut.all(acme, "k")));
  CHECK_FALSE(keys.makes(pdf_longer.all(acme, "k", "x")));
  CHECK_FALSE(keys.makes(prefix_only.all(acme)));
}

TEST_CASE("a catalog can be copied and may hold one schema") {
  const tn::catalog keys{portfolio};
  const tn::catalog copy = keys;
  CHECK(copy.patterns(acme).size() == 1);
  CHECK(copy.holds(acme, portfolio(acme).str()));
  CHECK_FALSE(copy.holds(acme, monthly(acme, "u", 1, 1).str()));
}

TEST_CASE("every key matches exactly one pattern of its catalog, and none of another tenant") {
  support::random_bytes random;
  const tn::catalog keys{portfolio, monthly, daily, pdf};
  for (int i = 0; i < 2000; ++i) {
    const tn::tenant_id a{random.tenant()};
    const tn::tenant_id b{random.tenant()};
    const std::vector<tn::key> own{portfolio(a),
                                   support::render(monthly, a, support::random_arguments(random, monthly)),
                                   support::render(daily, a, support::random_arguments(random, daily)),
                                   support::render(pdf, a, support::random_arguments(random, pdf))};
    const auto mine = keys.patterns(a);
    const auto theirs = keys.patterns(b);
    for (std::size_t k = 0; k < own.size(); ++k) {
      CAPTURE(own[k].str(), b.str());
      CHECK(keys.holds(a, own[k].str()));
      CHECK(keys.holds(b, own[k].str()) == (a == b));
      for (std::size_t p = 0; p < mine.size(); ++p) {
        CHECK(mine[p].matches(own[k].str()) == (p == k));
        if (a != b) CHECK_FALSE(theirs[p].matches(own[k].str()));
      }
    }
  }
}

TEST_CASE("schemas that one text could belong to overlap") {
  CHECK(overlap("a:{tenant}:{x}", "a:{tenant}:{x}"));
  CHECK(overlap("a:{tenant}", "a:{tenant}"));
  CHECK(overlap("a:{tenant}:{x}", "a:{tenant}:b"));
  CHECK(overlap("a:{tenant}:{x}", "a:{tenant}:b:c"));
  CHECK(overlap("a:{tenant}:{x}", "a:{tenant}:{n:02}"));
  CHECK(overlap("a:{tenant}:b:{x}", "a:{tenant}:{y}:c"));
  CHECK(overlap("a:{tenant}:{x}:end", "a:{tenant}:b:{y}:end"));
  CHECK(overlap("a:{tenant}:{x}:mid:{y}", "a:{tenant}:b:mid:mid:c"));
  CHECK(overlap("a:{tenant}:{x}:{y}", "a:{tenant}:{x}"));
  CHECK(overlap("a:{tenant}:b:{x}", "a:{tenant}:b:c:{y}", true, true));
}

TEST_CASE("schemas that no text could belong to both of do not overlap") {
  CHECK_FALSE(overlap("a:{tenant}:{x}", "b:{tenant}:{x}"));
  CHECK_FALSE(overlap("a:{tenant}:{x}", "ab:{tenant}:{x}"));
  CHECK_FALSE(overlap("a:{tenant}", "a:{tenant}:{x}"));
  CHECK_FALSE(overlap("a:{tenant}:b:{x}", "a:{tenant}:c:{x}"));
  CHECK_FALSE(overlap("a:{tenant}:b:{x}", "a:{tenant}:bc:{x}"));
  CHECK_FALSE(overlap("a:{tenant}:{x}:end", "a:{tenant}:{x}:fin"));
  CHECK_FALSE(overlap("a:{tenant}:b", "a:{tenant}:b:{x}"));
  CHECK_FALSE(overlap("a:{tenant}:b:{x}", "a:{tenant}:b"));
  CHECK_FALSE(overlap("a:{tenant}:{x}", "a:{tenant}:{x}", true, false));
}

TEST_CASE("a text that two schemas' patterns match is proof of their overlap") {
  support::random_bytes random;
  const std::vector<std::string> segments{"b", "c", "bc", "{x}", "{y}", "{z}"};
  const auto random_schema = [&] {
    std::string text = "a:{tenant}";
    std::string taken;
    for (std::size_t n = random.below(5); n > 0; --n) {
      const std::string& next = segments[random.below(segments.size())];
      if (taken.find(next) != std::string::npos && next.front() == '{') continue;
      taken += next;
      text += ":" + next;
    }
    return text;
  };
  const auto glob = [](const std::string& schema) {  // written by hand from the contract: the tenant is t
    std::string text = "a:t";
    for (std::size_t at = 10; at < schema.size();) {
      const std::size_t end = std::min(schema.find(':', at + 1), schema.size());
      text += schema[at + 1] == '{' ? ":*" : schema.substr(at, end - at);
      at = end;
    }
    while (text.ends_with(":*:*")) text.resize(text.size() - 2);
    return text;
  };
  int overlapping = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string first = random_schema();
    const std::string second = random_schema();
    CAPTURE(first, second, glob(first), glob(second));
    bool witness = false;
    for (int j = 0; j < 300 && !witness; ++j) {
      std::string text = "a:t";
      for (std::size_t n = random.below(7); n > 0; --n) text += ":" + segments[random.below(3)];
      witness = tn::detail::glob_matches(glob(first), text) && tn::detail::glob_matches(glob(second), text);
    }
    if (witness) CHECK(overlap(first, second));
    overlapping += witness ? 1 : 0;
  }
  CHECK(overlapping > 0);
  CHECK(overlapping < 400);
}
