// What must hold for every tenant and every argument, tried with random bytes and with the ids of a hostile caller.

#include "../../../examples/schemas.hpp"

#include <tenantry/key_schema.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <map>
#include <set>
#include <string>
#include <support/random_bytes.hpp>
#include <support/schema_arguments.hpp>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace tn = tenantry;
using namespace std::string_view_literals;

namespace {

constexpr auto together = tn::placement::tenant;

using portfolio = tn::key_schema<"kpi:{tenant}:portfolio">;
using gateway = tn::key_schema<"health:{tenant}:gateway:{gateway}">;
using monthly = tn::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}">;
using pair = tn::key_schema<"acme:{tenant}:{x}:{y}">;
using mixed = tn::key_schema<"a:{tenant}:{x}:{n:04}:{y}">;
using around = tn::key_schema<"m:{tenant}:{x}:mid:{y}:end">;
using portfolio_together = tn::key_schema<"kpi:{tenant}:portfolio", together>;
using monthly_together = tn::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}", together>;
using pair_together = tn::key_schema<"acme:{tenant}:{x}:{y}", together>;
using channels = tn::channel_schema<"events:{tenant}:{gateway}:{hour:02}">;

/// One small change that could turn an encoded text into another that looks as good.
std::string mutated(support::random_bytes& random, std::string text) {
  constexpr std::string_view bytes = ":%{}*#0123456789ABCDEFabcdefx \xff";
  const auto at = [&] { return text.empty() ? 0 : random.below(text.size()); };
  switch (random.below(8)) {
    case 0:
      text.insert(at(), 1, bytes[random.below(bytes.size())]);
      break;
    case 1:
      text.insert(at(), random.id());
      break;
    case 2:
      text.erase(at(), 1 + random.below(3));
      break;
    case 3:
      text.insert(at(), "0");
      break;
    case 4:
      text += bytes[random.below(bytes.size())];
      break;
    case 5: {
      constexpr std::string_view upper = "ABCDEF";
      for (char& c : text) {
        if (upper.find(c) != std::string_view::npos && random.below(2) == 0) c = static_cast<char>(c + ('a' - 'A'));
      }
      break;
    }
    case 6: {
      const std::size_t from = at();
      text.insert(at(), text.substr(from, random.below(6)));
      break;
    }
    default:
      if (!text.empty()) text[at()] = bytes[random.below(bytes.size())];
  }
  return text;
}

/// The definition of a glob with stars only, as slow and plain as possible.
bool matches_by_definition(std::string_view glob, std::string_view text) {
  if (glob.empty()) return text.empty();
  if (glob.front() != '*') {
    return !text.empty() && glob.front() == text.front() && matches_by_definition(glob.substr(1), text.substr(1));
  }
  for (std::size_t taken = 0; taken <= text.size(); ++taken) {
    if (matches_by_definition(glob.substr(1), text.substr(taken))) return true;
  }
  return false;
}

}  // namespace

TEMPLATE_TEST_CASE("rendering then parsing gives the same tenant and arguments", "", portfolio, gateway, monthly, pair,
                   mixed, around, portfolio_together, monthly_together, pair_together, channels) {
  support::random_bytes random;
  constexpr TestType schema;
  for (int i = 0; i < 2000; ++i) {
    const tn::tenant_id tenant{random.tenant()};
    const auto arguments = support::random_arguments(random, schema);
    const auto name = support::render(schema, tenant, arguments);
    CAPTURE(name.str());
    CHECK(name.tenant() == tenant);
    const auto parsed = schema.parse(name.str());
    REQUIRE(parsed.has_value());
    CHECK(parsed->tenant() == tenant);
    CHECK(parsed->arguments() == arguments);
  }
}

TEMPLATE_TEST_CASE("a text that is parsed is rendered back to the same bytes", "", portfolio, gateway, monthly, pair,
                   mixed, around, portfolio_together, monthly_together, pair_together, channels) {
  support::random_bytes random;
  constexpr TestType schema;
  int accepted = 0;
  int refused = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string text =
        support::render(schema, tn::tenant_id{random.tenant()}, support::random_arguments(random, schema)).str();
    for (std::size_t n = 1 + random.below(3); n > 0; --n) text = mutated(random, text);
    const auto parsed = schema.parse(text);
    ++(parsed ? accepted : refused);
    if (!parsed) continue;
    CAPTURE(text);
    REQUIRE(tn::tenant_id::valid(parsed->tenant().str()));
    CHECK(support::render(schema, parsed->tenant(), parsed->arguments()).str() == text);
  }
  CHECK(accepted > 100);  // else the test proves nothing
  CHECK(refused > 100);
}

TEMPLATE_TEST_CASE("two different lists of arguments never give one key", "", gateway, monthly, pair, mixed, around,
                   monthly_together, pair_together, channels) {
  support::random_bytes random;
  constexpr TestType schema;
  using entry = std::pair<std::string, support::arguments_of<TestType>>;
  std::map<std::string, entry> rendered;
  const auto id = [&] { return random.text_of(":%3A{}0a\0"sv, 1 + random.below(3)); };  // short, so that lists meet
  for (int i = 0; i < 20'000; ++i) {
    entry from{random.below(2) == 0 ? "a" : "a0", {}};
    std::apply(
        [&](auto&... each) {
          const auto choose = [&](auto& argument) {
            if constexpr (std::is_same_v<std::decay_t<decltype(argument)>, std::string>) {
              argument = id();
            } else {
              argument = random.below(2) == 0 ? random.below(12) : random.number();
            }
          };
          (choose(each), ...);
        },
        from.second);
    const auto [place, is_new] =
        rendered.emplace(support::render(schema, tn::tenant_id{from.first}, from.second).str(), from);
    if (!is_new) {
      CAPTURE(place->first);
      CHECK(place->second == from);
    }
  }
  CHECK(rendered.size() > 500);
}

TEST_CASE("all pairs of short texts of awkward bytes give different keys") {
  std::vector<std::string> texts;
  constexpr std::string_view alphabet = ":%3A{*\0"sv;
  for (const char a : alphabet) {
    texts.emplace_back(1, a);
    for (const char b : alphabet) {
      texts.push_back({a, b});
      for (const char c : alphabet) texts.push_back({a, b, c});
    }
  }
  constexpr pair schema;
  const tn::tenant_id tenant{"a"};
  std::set<std::string> keys;
  for (const std::string& x : texts) {
    for (const std::string& y : texts) keys.insert(schema(tenant, x, y).str());
  }
  CHECK(keys.size() == texts.size() * texts.size());
}

TEST_CASE("keys of different schemas differ, whatever their tenants and arguments") {
  support::random_bytes random;
  std::map<std::string, int> owner;
  const auto add = [&](const auto& schema, int number) {
    const auto key = support::render(schema, tn::tenant_id{random.tenant()}, support::random_arguments(random, schema));
    const auto [place, is_new] = owner.emplace(key.str(), number);
    CAPTURE(key.str());
    CHECK(place->second == number);
  };
  for (int i = 0; i < 3000; ++i) {
    add(portfolio{}, 0);
    add(gateway{}, 1);
    add(monthly{}, 2);
    add(pair{}, 3);
    add(mixed{}, 4);
    add(around{}, 5);
    add(portfolio_together{}, 6);
    add(monthly_together{}, 7);
    add(pair_together{}, 8);
  }
}

TEMPLATE_TEST_CASE("a pattern matches exactly the keys of its tenant that begin with its arguments", "", portfolio,
                   gateway, monthly, pair, mixed, around, portfolio_together, monthly_together, pair_together,
                   channels) {
  support::random_bytes random;
  constexpr TestType schema;
  constexpr std::size_t size = std::tuple_size_v<support::arguments_of<TestType>>;
  for (int i = 0; i < 3000; ++i) {
    const tn::tenant_id a{random.tenant()};
    const tn::tenant_id b{random.below(2) == 0 ? a.str() : random.tenant()};
    const auto mine = support::random_arguments(random, schema);
    auto theirs = random.below(2) == 0 ? mine : support::random_arguments(random, schema);
    if constexpr (size > 1) {
      if (random.below(2) == 0) std::get<0>(theirs) = std::get<0>(mine);
    }
    const auto key = support::render(schema, a, mine);
    for (std::size_t n = 0; n <= size; ++n) {
      const auto pattern = support::pattern(schema, b, theirs, n);
      CAPTURE(key.str(), pattern.str());
      CHECK(pattern.tenant() == b);
      CHECK(pattern.matches(key.str()) == (a == b && support::same_leading(mine, theirs, n)));
    }
  }
}

TEST_CASE("no key of one tenant matches any schema's pattern of another") {
  support::random_bytes random;
  std::vector<std::pair<std::string, std::string>> keys;  // tenant and text
  std::vector<tn::key_pattern> patterns;
  const auto add = [&](const auto& schema) {
    const tn::tenant_id tenant{random.tenant()};
    const auto arguments = support::random_arguments(random, schema);
    const tn::key key = support::render(schema, tenant, arguments);
    keys.emplace_back(tenant.str(), key.str());
    keys.emplace_back(tenant.str(), key.companion("lease"));
    patterns.push_back(support::pattern(schema, tenant, arguments, random.below(4)));
  };
  for (int i = 0; i < 60; ++i) {
    add(portfolio{});
    add(gateway{});
    add(monthly{});
    add(pair{});
    add(mixed{});
    add(around{});
    add(portfolio_together{});
    add(monthly_together{});
    add(pair_together{});
  }
  for (const tn::key_pattern& pattern : patterns) {
    const std::string owner = pattern.tenant().str();
    for (const auto& [tenant, text] : keys) {
      if (tenant == owner || !pattern.matches(text)) continue;
      CAPTURE(owner, pattern.str(), text);
      FAIL("a pattern reaches another tenant's key");
    }
  }
  SUCCEED();
}

TEST_CASE("the example schemas keep tenants apart that are prefixes of each other") {
  const tn::tenant_id acme{"acme"};
  const tn::tenant_id acme2{"acme2"};
  CHECK_FALSE(schemas::reading_monthly.all(acme).matches(schemas::reading_monthly(acme2, "u", 2026, 3).str()));
  CHECK_FALSE(schemas::reading_monthly.all(acme2).matches(schemas::reading_monthly(acme, "2", 2026, 3).str()));
  CHECK_FALSE(schemas::portfolio_kpi.all(acme).matches(schemas::portfolio_kpi(acme2).str()));
  CHECK_FALSE(schemas::alarms.all(acme).matches(schemas::alarms(acme2).str()));
}

TEST_CASE("the matcher agrees with the definition of a glob of stars") {
  support::random_bytes random;
  int matched = 0;
  for (int i = 0; i < 50'000; ++i) {
    const std::string glob = random.text_of("ab:**", random.below(8));
    const std::string text = random.text_of("ab:", random.below(9));
    const bool expected = matches_by_definition(glob, text);
    if (tn::detail::glob_matches(glob, text) != expected) {
      CAPTURE(glob, text, expected);
      FAIL("the matcher disagrees");
    }
    matched += expected ? 1 : 0;
  }
  CHECK(matched > 1000);
}

TEST_CASE("the matcher takes other glob characters and odd bytes for themselves") {
  CHECK(tn::detail::glob_matches("a\0*"sv, "a\0b\0"sv));
  CHECK_FALSE(tn::detail::glob_matches("a\0*"sv, "ab"sv));
  CHECK(tn::detail::glob_matches("*\xff"sv, "\xff\xff"sv));
  CHECK(tn::detail::glob_matches("{a}*"sv, "{a}b"sv));
}

TEST_CASE("a pattern of many stars is judged in the time of one") {
  std::string glob;
  for (int i = 0; i < 14; ++i) glob += "a*";
  glob += "b";
  CHECK_FALSE(tn::detail::glob_matches(glob, std::string(5000, 'a')));
}
