#include <tenantry/channel.hpp>
#include <tenantry/error.hpp>
#include <tenantry/key_schema.hpp>

#include <catch2/catch_test_macros.hpp>

#include <set>
#include <string>
#include <support/random_bytes.hpp>
#include <support/schema_arguments.hpp>
#include <type_traits>
#include <unordered_set>

namespace tn = tenantry;

namespace {

constexpr tn::channel_schema<"alarms:{tenant}"> alarms;
constexpr tn::channel_schema<"events:{tenant}:gateway:{gateway}:{hour:02}"> events;

}  // namespace

TEST_CASE("a channel is rendered like a key, and parsed back") {
  const tn::tenant_id acme{"acme"};
  CHECK(alarms(acme).str() == "alarms:acme");
  CHECK(alarms(acme).tenant() == acme);
  CHECK(events(acme, "gw*", 7).str() == "events:acme:gateway:gw%2A:07");
  const auto parts = events.parse("events:acme:gateway:gw%2A:07");
  REQUIRE(parts);
  CHECK(parts->tenant() == acme);
  CHECK(parts->get<"gateway">() == "gw*");
  CHECK(parts->get<"hour">() == 7);
  CHECK(alarms.parse("alarms:acme")->tenant() == acme);
  CHECK_FALSE(alarms.parse("alarms:acme:x"));
  CHECK_FALSE(alarms.parse("alarms:{acme}"));
}

TEST_CASE("with tenant placement the tenant of a channel is its hash tag") {
  constexpr tn::channel_schema<"events:{tenant}:gateway:{gateway}", tn::placement::tenant> placed;
  const tn::tenant_id acme{"acme"};
  CHECK(placed(acme, "gw{x}").str() == "events:{acme}:gateway:gw%7Bx%7D");
  CHECK(placed(acme, "gw").tenant() == acme);
  CHECK(placed.parse("events:{acme}:gateway:gw")->tenant() == acme);
  CHECK_FALSE(placed.parse("events:acme:gateway:gw"));
  CHECK(placed.all(acme).str() == "events:{acme}:gateway:*");
}

TEST_CASE("a channel refuses empty texts and negative numbers") {
  const tn::tenant_id acme{"acme"};
  CHECK_THROWS_AS(events(acme, "", 7), tn::invalid_name);
  CHECK_THROWS_AS(events(acme, "gw", -7), tn::invalid_name);
  CHECK_THROWS_AS(events.all(acme, ""), tn::invalid_name);
}

TEST_CASE("a channel pattern is of one tenant") {
  const tn::tenant_id acme{"acme"};
  CHECK(alarms.all(acme).str() == "alarms:acme");
  CHECK(events.all(acme).str() == "events:acme:gateway:*");
  CHECK(events.all(acme, "gw").str() == "events:acme:gateway:gw:*");
  CHECK(events.all(acme).tenant() == acme);
}

TEST_CASE("no channel of one tenant matches a pattern of another, and every own channel matches") {
  support::random_bytes random;
  for (int i = 0; i < 3000; ++i) {
    const tn::tenant_id a{random.tenant()};
    const tn::tenant_id b{random.tenant()};
    const auto arguments = support::random_arguments(random, events);
    const auto others = support::random_arguments(random, events);
    const tn::channel mine = support::render(events, a, arguments);
    for (std::size_t n = 0; n <= 2; ++n) {
      const tn::channel_pattern p = support::pattern(events, b, others, n);
      CAPTURE(mine.str(), p.str());
      CHECK(p.matches(mine.str()) == (a == b && support::same_leading(arguments, others, n)));
      CHECK(support::pattern(events, a, arguments, n).matches(mine.str()));
    }
    CHECK(alarms.all(b).matches(alarms(a).str()) == (a == b));
    CHECK_FALSE(alarms.all(a).matches(mine.str()));
  }
}

TEST_CASE("channels compare, order and hash by their text") {
  const tn::channel a = alarms(tn::tenant_id{"a"});
  const tn::channel same = alarms(tn::tenant_id{"a"});
  const tn::channel b = alarms(tn::tenant_id{"b"});
  CHECK(a == same);
  CHECK(a != b);
  CHECK(a < b);
  CHECK(std::hash<tn::channel>{}(a) == std::hash<tn::channel>{}(same));
  CHECK(std::unordered_set<tn::channel>{a, same, b}.size() == 2);
  CHECK(std::set<tn::channel>{b, same, a}.begin()->str() == "alarms:a");
}

TEST_CASE("channels and keys are different things") {
  STATIC_CHECK_FALSE(std::is_constructible_v<tn::channel, tn::key>);
  STATIC_CHECK_FALSE(std::is_constructible_v<tn::key, tn::channel>);
  STATIC_CHECK_FALSE(std::is_constructible_v<tn::channel, tn::channel_pattern>);
  STATIC_CHECK_FALSE(std::is_convertible_v<const char*, tn::channel>);
  STATIC_CHECK_FALSE(std::is_convertible_v<std::string, tn::channel_pattern>);
}
