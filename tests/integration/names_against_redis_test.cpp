// The promises about patterns, judged by the one whose opinion counts: SCAN MATCH of a real server.

#include <tenantry/catalog.hpp>
#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <support/random_bytes.hpp>
#include <support/schema_arguments.hpp>
#include <tuple>
#include <vector>

namespace tn = tenantry;

namespace {

constexpr tn::key_schema<"kpi:{tenant}:portfolio"> portfolio;
constexpr tn::key_schema<"readings:{tenant}:monthly:{unit}:{year}:{month:02}"> monthly;
constexpr tn::key_schema<"acme:{tenant}:{x}:{y}"> pair;
constexpr tn::key_schema<"m:{tenant}:{x}:mid:{y}:end"> around;
constexpr tn::key_schema<"kpi:{tenant}:portfolio", tn::placement::tenant> portfolio_together;
constexpr tn::key_schema<"daily:{tenant}:{unit}:{day:03}", tn::placement::tenant> daily_together;
const tn::catalog all_schemas{portfolio, monthly, pair, around, portfolio_together, daily_together};

std::set<std::string> scan(tn::client& redis, const std::string& pattern) {
  std::set<std::string> found;
  std::string cursor = "0";
  do {
    const tn::reply page = redis.execute("SCAN", cursor, "MATCH", pattern, "COUNT", 10'000);
    cursor = page.elements().at(0).str();
    for (const tn::reply& text : page.elements().at(1).elements()) found.insert(text.str());
  } while (cursor != "0");
  return found;
}

void store(tn::client& redis, const std::vector<std::string>& texts) {
  constexpr std::size_t batch = 500;
  for (std::size_t at = 0; at < texts.size(); at += batch) {
    std::vector<tn::command> commands;
    for (std::size_t i = at; i < std::min(at + batch, texts.size()); ++i) commands.emplace_back("SET", texts[i], "v");
    for (const tn::reply& reply : redis.execute_all(commands)) REQUIRE(reply.str() == "OK");
  }
}

/// Keys of one schema, and what they were rendered from.
template <class Schema>
struct family {
  struct entry {
    tn::tenant_id tenant;
    support::arguments_of<Schema> arguments;
    std::string text;
  };

  Schema schema;
  std::vector<entry> entries;

  explicit family(const Schema& of) : schema{of} {}

  /// For each tenant random argument lists, and some that another tenant has too.
  void fill(support::random_bytes& random, const std::vector<tn::tenant_id>& tenants,
            std::map<std::string, std::string>& owners) {
    for (const tn::tenant_id& tenant : tenants) {
      for (int i = 0; i < 8; ++i) {
        auto arguments = support::random_arguments(random, schema);
        if (i >= 4 && !entries.empty()) arguments = entries[random.below(entries.size())].arguments;
        if constexpr (std::tuple_size_v<support::arguments_of<Schema>> > 1) {
          if (i % 4 == 3) std::get<0>(arguments) = entries[random.below(entries.size())].tenant.str();
        }
        const tn::key key = support::render(schema, tenant, arguments);
        entries.push_back({tenant, arguments, key.str()});
        owners.emplace(key.str(), tenant.str());
        owners.emplace(key.companion("lease"), tenant.str());
      }
    }
  }

  /// Redis finds with each pattern exactly this tenant's keys with these leading arguments, and never another tenant's.
  void check(tn::client& redis, const std::map<std::string, std::string>& owners) const {
    for (std::size_t i = 0; i < entries.size(); i += 3) {
      for (std::size_t n = 0; n <= std::tuple_size_v<support::arguments_of<Schema>>; ++n) {
        const tn::key_pattern pattern = support::pattern(schema, entries[i].tenant, entries[i].arguments, n);
        std::set<std::string> expected;
        for (const entry& each : entries) {
          if (each.tenant == entries[i].tenant && support::same_leading(each.arguments, entries[i].arguments, n)) {
            expected.insert(each.text);
          }
        }
        CAPTURE(pattern.str());
        std::set<std::string> found = scan(redis, pattern.str());
        for (const std::string& text : found) {
          CAPTURE(text);
          CHECK(owners.at(text) == entries[i].tenant.str());
          CHECK(pattern.matches(text));
        }
        std::erase_if(found, [](const std::string& text) { return text.ends_with("#lease"); });
        CHECK(found == expected);
      }
    }
  }
};

std::vector<tn::tenant_id> confusing_tenants(support::random_bytes& random) {
  std::set<std::string> ids{"a", "ac", "acme", "acme2", "acme.", "ACME", "portfolio", "mid", "2026", "-"};
  while (ids.size() < 14) ids.insert(random.tenant());
  std::vector<tn::tenant_id> tenants;
  for (const std::string& id : ids) tenants.emplace_back(id);
  return tenants;
}

}  // namespace

TEST_CASE("Redis finds by a pattern exactly its tenant's keys that begin with its arguments") {
  support::random_bytes random;
  const tenantry::testing::redis_server server;
  tn::client redis{server.url()};
  const auto tenants = confusing_tenants(random);

  std::tuple families{family{portfolio},          family{monthly},       family{pair}, family{around},
                      family{portfolio_together}, family{daily_together}};
  std::map<std::string, std::string> owners;  // of every key in Redis
  std::apply([&](auto&... each) { (each.fill(random, tenants, owners), ...); }, families);
  for (const tn::tenant_id& tenant : tenants) {
    for (const std::string prefix : {"stamp:{", "log:{", "permits:{"}) {
      owners.emplace(prefix + tenant.str() + "}:x", tenant.str());
    }
  }

  std::vector<std::string> texts;
  for (const auto& [text, tenant] : owners) texts.push_back(text);
  store(redis, texts);
  REQUIRE(redis.execute("DBSIZE").integer() == static_cast<std::int64_t>(texts.size()));

  std::apply([&](const auto&... each) { (each.check(redis, owners), ...); }, families);
}

TEST_CASE("Redis finds by a catalog's patterns every key of the tenant, and no other tenant's") {
  support::random_bytes random;
  const tenantry::testing::redis_server server;
  tn::client redis{server.url()};
  const auto tenants = confusing_tenants(random);

  std::map<std::string, std::set<std::string>> keys;  // by tenant
  const auto add = [&](const auto& schema, const tn::tenant_id& tenant) {
    keys[tenant.str()].insert(support::render(schema, tenant, support::random_arguments(random, schema)).str());
  };
  for (const tn::tenant_id& tenant : tenants) {
    for (int i = 0; i < 5; ++i) {
      add(portfolio, tenant);
      add(monthly, tenant);
      add(pair, tenant);
      add(around, tenant);
      add(portfolio_together, tenant);
      add(daily_together, tenant);
    }
    store(redis, {keys[tenant.str()].begin(), keys[tenant.str()].end()});
  }

  for (const tn::tenant_id& tenant : tenants) {
    CAPTURE(tenant.str());
    std::set<std::string> found;
    std::size_t hits = 0;
    for (const tn::key_pattern& pattern : all_schemas.patterns(tenant)) {
      const auto page = scan(redis, pattern.str());
      hits += page.size();
      found.insert(page.begin(), page.end());
    }
    CHECK(found == keys[tenant.str()]);
    CHECK(hits == found.size());  // no key belongs to two schemas
    CHECK(std::ranges::all_of(found, [&](const std::string& text) { return all_schemas.holds(tenant, text); }));
  }
}

TEST_CASE("the usual sweep of another service reaches no library key and no key of another tenant") {
  const tenantry::testing::redis_server server;
  tn::client redis{server.url()};
  const tn::tenant_id acme{"acme"};
  const tn::tenant_id other{"other"};
  store(redis, {portfolio(acme).str(), portfolio(other).str(), pair(other, ":acme:", "acme").str(), "stamp:{acme}",
                "log:{acme}:alarms", "permits:{acme}:x"});
  CHECK(scan(redis, "*:acme:*") == std::set<std::string>{portfolio(acme).str()});
}

TEST_CASE("the library's matcher agrees with Redis on any glob of stars") {
  support::random_bytes random;
  const tenantry::testing::redis_server server;
  tn::client redis{server.url()};
  using namespace std::string_view_literals;
  const auto alphabet = "aab::%{}#^-\0\xff"sv;

  std::set<std::string> texts;
  for (int i = 0; i < 800; ++i) texts.insert(random.text_of("ab:", 1 + random.below(7)));
  for (int i = 0; i < 800; ++i) texts.insert(random.text_of(alphabet, 1 + random.below(6)));
  store(redis, {texts.begin(), texts.end()});

  std::size_t matched = 0;
  for (int i = 0; i < 800; ++i) {
    std::string glob = random.text_of(i % 2 == 0 ? "ab:"sv : alphabet, random.below(5));
    for (std::size_t stars = random.below(4) + (glob.empty() ? 1 : 0); stars > 0; --stars) {
      glob.insert(random.below(glob.size() + 1), 1, '*');
    }
    CAPTURE(glob);
    std::set<std::string> expected;
    for (const std::string& text : texts) {
      if (tn::detail::glob_matches(glob, text)) expected.insert(text);
    }
    CHECK(scan(redis, glob) == expected);
    matched += expected.size();
  }
  CHECK(matched > 1000);
}
