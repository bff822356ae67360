// What a publisher sends, and what it refuses to.

#include "support/cache_rig.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::redis_rig;

inline constexpr tn::channel_schema<"alarms:{tenant}"> alarms;
const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};

std::string next(tn::subscription<std::string>& from) {
  auto event = from.next_for(20s);
  return event ? std::get<tn::message<std::string>>(*event).value : "nothing";
}

}  // namespace

TEST_CASE("a payload that is too large is refused before anything is published") {
  const redis_rig redis;
  const tn::publisher pub{redis.client, {.max_payload = 100}};
  tn::subscriber sub{redis.client};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  CHECK_THROWS_AS(pub.publish(alarms(acme), std::string(101, 'x')), tn::invalid_option);
  const std::vector<tn::outgoing> some{{.to = alarms(acme), .payload = "ok"},
                                       {.to = alarms(acme), .payload = std::string(101, 'x')}};
  CHECK_THROWS_AS(pub.publish_all(some), tn::invalid_option);
  CHECK(pub.publish(alarms(acme), std::string(100, 'x')) == 1);
  CHECK(next(feed) == std::string(100, 'x'));
}

TEST_CASE("several messages go in one round trip, in order, and each has its number of receivers") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  const std::vector<tn::outgoing> some{{.to = alarms(acme), .payload = "1"},
                                       {.to = alarms(globex), .payload = "2"},
                                       {.to = alarms(acme), .payload = "3"}};
  redis.client.execute("CONFIG", "RESETSTAT");
  const auto writes = redis.client.metrics().lanes[0].writes;
  CHECK(pub.publish_all(some) == std::vector<std::uint64_t>{1, 0, 1});
  CHECK(redis.client.metrics().lanes[0].writes == writes + 1);
  CHECK(next(feed) == "1");
  CHECK(next(feed) == "3");
}

TEST_CASE("a message whose reply was lost is not sent again") {
  support::need_redis();
  tn::testing::redis_server server;
  const tn::client redis{server.url()};
  const tn::publisher pub{redis, {.timeout = 100ms}};
  tn::subscriber sub{redis};
  auto feed = sub.subscribe<std::string>(alarms(acme));
  pub.publish(alarms(acme), "first");
  server.pause();
  try {
    pub.publish(alarms(acme), "once");
    FAIL("published");
  } catch (const tn::timeout_error& why) {
    CHECK(why.execution() == tn::execution::unknown);
  }
  server.resume();
  CHECK(next(feed) == "first");
  CHECK(next(feed) == "once");
  CHECK_FALSE(feed.next_for(50ms));
}

TEST_CASE("options of a publisher that cannot be are refused by name") {
  const redis_rig redis;
  CHECK_THROWS_AS((tn::publisher{redis.client, {.max_payload = 0}}), tn::invalid_option);
  CHECK_THROWS_AS((tn::publisher{redis.client, {.timeout = 0ms}}), tn::invalid_option);
}
