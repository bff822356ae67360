#include <tenantry/key.hpp>
#include <tenantry/key_schema.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <new>
#include <set>
#include <string>
#include <support/allocation_counter.hpp>
#include <support/random_bytes.hpp>
#include <thread>
#include <type_traits>
#include <unordered_set>
#include <utility>

namespace tn = tenantry;
using namespace std::string_view_literals;

namespace {

constexpr tn::key_schema<"kpi:{tenant}:portfolio"> portfolio;
constexpr tn::key_schema<"unit:{tenant}:state:{unit}"> unit_state;
constexpr tn::key_schema<"kpi:{tenant}:portfolio", tn::placement::tenant> portfolio_together;
constexpr tn::key_schema<"unit:{tenant}:state:{unit}", tn::placement::tenant> unit_state_together;
constexpr tn::key_schema<"flag:{tenant}", tn::placement::tenant> flag_together;

/// CRC16-CCITT (XMODEM), bit by bit as the Redis Cluster specification defines it.
std::uint16_t crc16(std::string_view bytes) {
  std::uint32_t crc = 0;
  for (const char c : bytes) {
    crc ^= std::uint32_t{static_cast<unsigned char>(c)} << 8U;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 0x8000U) != 0 ? (crc << 1U) ^ 0x1021U : crc << 1U;
  }
  return static_cast<std::uint16_t>(crc & 0xffffU);
}

/// The bytes that decide a key's slot: those between the first { and the first } after it, if there are any.
std::string_view hashed_part(std::string_view key) {
  const std::size_t open = key.find('{');
  if (open == std::string_view::npos) return key;
  const std::size_t close = key.find('}', open + 1);
  if (close == std::string_view::npos || close == open + 1) return key;
  return key.substr(open + 1, close - open - 1);
}

unsigned slot(std::string_view key) { return crc16(hashed_part(key)) % 16384U; }

}  // namespace

TEST_CASE("the test's slot rule is the one of Redis Cluster") {
  CHECK(crc16("123456789") == 0x31c3);
  CHECK(slot("foo") == 12182);  // CLUSTER KEYSLOT foo
  CHECK(slot("{foo}.x") == slot("foo"));
  CHECK(slot("foo{}{bar}") == crc16("foo{}{bar}") % 16384U);
  CHECK(hashed_part("foo{{bar}}zap") == "{bar");
}

TEST_CASE("a key knows its text and its tenant") {
  const tn::tenant_id acme{"acme"};
  CHECK(portfolio(acme).str() == "kpi:acme:portfolio");
  CHECK(portfolio(acme).tenant() == acme);
  CHECK(portfolio_together(acme).str() == "kpi:{acme}:portfolio");
  CHECK(portfolio_together(acme).tenant() == acme);
  CHECK(flag_together(acme).tenant() == acme);
}

TEST_CASE("a key's tenant is found by its place, not by its text") {
  for (const auto id : {"kpi"sv, "portfolio"sv, "k"sv, "p"sv, "unit"sv, "state"sv}) {
    const tn::tenant_id tenant{id};
    CHECK(portfolio(tenant).tenant() == tenant);
    CHECK(portfolio_together(tenant).tenant() == tenant);
    CHECK(unit_state(tenant, "acme").tenant() == tenant);
    CHECK(unit_state(tenant, "acme").companion("lease").find(tenant.str()) != std::string::npos);
  }
}

TEST_CASE("with spread placement a key is its own hash tag, whatever its arguments") {
  support::random_bytes random;
  for (int i = 0; i < 2000; ++i) {
    const tn::key k = unit_state(tn::tenant_id{random.tenant()}, random.id());
    CAPTURE(k.str());
    CHECK(hashed_part(k.str()) == k.str());
  }
}

TEST_CASE("with tenant placement all keys of a tenant have the tenant as their hash tag") {
  support::random_bytes random;
  for (int i = 0; i < 2000; ++i) {
    const tn::tenant_id tenant{random.tenant()};
    const tn::key k = unit_state_together(tenant, random.id());
    CAPTURE(k.str());
    CHECK(hashed_part(k.str()) == tenant.str());
    CHECK(slot(k.str()) == slot(portfolio_together(tenant).str()));
    CHECK(slot(k.str()) == slot(flag_together(tenant).str()));
  }
}

TEST_CASE("companions are named as documented") {
  const tn::tenant_id acme{"acme"};
  CHECK(portfolio(acme).companion("lease") == "{kpi:acme:portfolio}#lease");
  CHECK(portfolio_together(acme).companion("lease") == "kpi:{acme}:portfolio#lease");
  CHECK(flag_together(acme).companion("lease") == "flag:{acme}#lease");
}

TEST_CASE("a companion shares its owner's slot, with both placements") {
  support::random_bytes random;
  for (int i = 0; i < 2000; ++i) {
    const tn::tenant_id tenant{random.tenant()};
    const std::string id = random.id();
    for (const tn::key& k : {unit_state(tenant, id), unit_state_together(tenant, id), portfolio(tenant),
                             portfolio_together(tenant), flag_together(tenant)}) {
      const std::string companion = k.companion("lease");
      CAPTURE(companion);
      CHECK(slot(companion) == slot(k.str()));
    }
  }
}

TEST_CASE("no schema parses a companion, whatever it is called") {
  support::random_bytes random;
  for (int i = 0; i < 2000; ++i) {
    const tn::tenant_id tenant{random.tenant()};
    const std::string id = random.id();
    for (const tn::key& k : {unit_state(tenant, id), unit_state_together(tenant, id), portfolio(tenant),
                             portfolio_together(tenant), flag_together(tenant)}) {
      for (const std::string& name : {std::string{"lease"}, std::string{"s:x"}, std::string{"}"}, random.id()}) {
        const std::string companion = k.companion(name);
        CAPTURE(companion);
        CHECK_FALSE(portfolio.parse(companion));
        CHECK_FALSE(unit_state.parse(companion));
        CHECK_FALSE(portfolio_together.parse(companion));
        CHECK_FALSE(unit_state_together.parse(companion));
        CHECK_FALSE(flag_together.parse(companion));
      }
    }
  }
}

TEST_CASE("companions of different keys, or of different names, differ") {
  const tn::tenant_id a{"a"};
  const tn::tenant_id b{"b"};
  std::set<std::string> seen;
  std::size_t made = 0;
  for (const tn::key& k : {portfolio(a), portfolio(b), portfolio_together(a), unit_state(a, "x"),
                           unit_state(a, "x#lease"), unit_state_together(a, "x"), unit_state_together(a, "x#lease")}) {
    for (const auto name : {"lease"sv, "tags"sv, "lease#lease"sv}) {
      seen.insert(k.companion(name));
      ++made;
    }
  }
  CHECK(seen.size() == made);
}

TEST_CASE("a companion names its owner, whatever it is called itself") {
  support::random_bytes random;
  for (int i = 0; i < 2000; ++i) {
    const tn::tenant_id tenant{random.tenant()};
    const std::string id = random.id();
    for (const tn::key& k : {unit_state(tenant, id), unit_state_together(tenant, id), portfolio(tenant),
                             portfolio_together(tenant), flag_together(tenant)}) {
      for (const std::string& name : {std::string{"lease"}, std::string{}, std::string{"}#{"}, random.id()}) {
        const std::string companion = k.companion(name);
        CAPTURE(companion);
        CHECK(tn::key::owner_of(companion) == k.str());
      }
      CHECK(tn::key::owner_of(k.str()) == std::nullopt);
    }
  }
}

TEST_CASE("what no key renders as a companion has no owner") {
  for (const auto text : {""sv, "#"sv, "#lease"sv, "{#lease"sv, "}#lease"sv, "{}#lease"sv, "kpi:acme:portfolio"sv,
                          "{kpi:acme:portfolio}"sv, "kpi:acme:portfolio#lease"sv, "{kpi:acme:portfolio#lease"sv,
                          "kpi:acme:portfolio}#lease"sv, "x{kpi:acme:portfolio}#lease"sv,
                          "{kpi:{acme}:portfolio}#lease"sv, "{{kpi:acme:portfolio}}#lease"sv}) {
    CAPTURE(text);
    CHECK(tn::key::owner_of(text) == std::nullopt);
  }
}

TEST_CASE("keys compare, order and hash by their text") {
  const tn::tenant_id acme{"acme"};
  const tn::key a = unit_state(acme, "a");
  const tn::key same = unit_state(acme, std::string{"a"});
  const tn::key b = unit_state(acme, "b");
  CHECK(a == same);
  CHECK(a != b);
  CHECK(a < b);
  CHECK((a <=> same) == 0);
  CHECK((b <=> a) > 0);
  CHECK(std::hash<tn::key>{}(a) == std::hash<tn::key>{}(same));
  CHECK(std::unordered_set<tn::key>{a, same, b}.size() == 2);
  CHECK(std::set<tn::key>{b, a, same}.begin()->str() == a.str());
}

TEST_CASE("a key can be copied, moved and assigned, and stays itself") {
  const tn::tenant_id acme{"acme"};
  tn::key a = portfolio(acme);
  const tn::key copy = a;
  tn::key moved = std::move(a);
  CHECK(moved == copy);
  CHECK(moved.tenant() == acme);
  moved = portfolio_together(tn::tenant_id{"other"});
  CHECK(moved.tenant().str() == "other");
  CHECK(moved.companion("lease") == "kpi:{other}:portfolio#lease");
  CHECK(copy.str() == "kpi:acme:portfolio");
}

TEST_CASE("no text turns into a key or pattern by itself") {
  STATIC_CHECK_FALSE(std::is_default_constructible_v<tn::key>);
  STATIC_CHECK_FALSE(std::is_default_constructible_v<tn::key_pattern>);
  STATIC_CHECK_FALSE(std::is_convertible_v<std::string, tn::key>);
  STATIC_CHECK_FALSE(std::is_convertible_v<const char*, tn::key_pattern>);
  STATIC_CHECK_FALSE(std::is_constructible_v<tn::key, tn::key_pattern>);
  STATIC_CHECK_FALSE(std::is_constructible_v<tn::key_pattern, tn::key>);
}

TEST_CASE("the allocation counter sees every way to allocate, and only this thread's") {
  if (!support::allocation_counter::works) SKIP("allocations are not counted under this sanitizer");
  const support::allocation_counter counter;
  ::operator delete(::operator new(8));
  ::operator delete[](::operator new[](8));
  ::operator delete(::operator new(8, std::nothrow), std::nothrow);
  ::operator delete(::operator new(64, std::align_val_t{64}), std::align_val_t{64});
  CHECK(counter.count() == 4);

  std::size_t elsewhere = 0;
  const support::allocation_counter mine;
  std::thread other{[&elsewhere] {
    const support::allocation_counter theirs;
    for (int i = 0; i < 100; ++i) ::operator delete(::operator new(8));
    elsewhere = theirs.count();
  }};
  other.join();
  const std::size_t here = mine.count();
  CHECK(elsewhere == 100);
  CHECK(here < 100);
}

TEST_CASE("rendering a key of four segments costs one allocation at most") {
  const tn::tenant_id acme{"acme-of-a-name-longer-than-a-small-string"};
  const std::string unit = "a-unit-of-a-name-longer-than-a-small-string";
  const std::string encoded = "a unit: 100% {of} *bytes* that are encoded \xff";
  const auto cost = [&](const auto& argument) {
    const support::allocation_counter counter;
    const tn::key k = unit_state(acme, argument);
    return counter.count();
  };
  CHECK(cost(unit) <= 1);
  CHECK(cost(encoded) <= 1);
  CHECK(cost(std::string_view{unit}) <= 1);
  CHECK(cost("unit-7") <= 1);
  CHECK(cost(UINT64_MAX) <= 1);
}

TEST_CASE("rendering any key costs one allocation at most") {
  constexpr tn::key_schema<"r:{tenant}:monthly:{unit}:{year}:{month:02}:{a}:{b}:{c}", tn::placement::tenant> wide;
  const tn::tenant_id acme{std::string(64, 'x')};
  const std::string big(100'000, '%');
  const support::allocation_counter counter;
  const tn::key k = wide(acme, big, 2026, 3, "\xff", "b", big);
  CHECK(counter.count() <= 1);
  CHECK(k.str().size() > 600'000);
}
