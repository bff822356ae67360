// What a listener is told of several outages, against a real server.

#include "support/cache_rig.hpp"
#include "support/feeds.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/feed_events.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::eventually;
using support::next_of;
using support::redis_rig;

const tn::tenant_id acme{"acme"};
constexpr auto patience = 20s;

}  // namespace

TEST_CASE("a listener that does not read is told of all its outages by one gap, before the first new message") {
  const redis_rig redis;
  const tn::publisher pub{redis.client};
  tn::subscriber sub{redis.client};
  auto reads = sub.subscribe<std::string>(alarms(acme));
  auto never = sub.subscribe<std::string>(alarms(acme));
  std::vector<tn::gap> told;
  for (std::uint64_t outage = 1; outage <= 5; ++outage) {
    support::kill_listeners(redis.client);
    REQUIRE(eventually([&] { return never.counters().gaps == outage; }));
    const auto event = reads.next_for(patience);
    REQUIRE(event);
    told.push_back(std::get<tn::gap>(*event));
  }
  pub.publish(alarms(acme), "new");
  const auto event = never.next_for(patience);
  REQUIRE(event);
  const tn::gap& all = std::get<tn::gap>(*event);
  CHECK(all.from <= told.front().to);
  CHECK(all.to >= told.back().from);
  CHECK(next_of(never) == "new");
  CHECK(next_of(reads) == "new");
  CHECK(reads.counters().gaps == 5);
}
