// The end of connections on which tracked reads go, as a near cache hears of it.

#include "engine/seam.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace tenantry;
using detail::seam;
using support::eventually;

namespace {

/// Ends connections of another client.
void kill(const client& by, std::int64_t id) { by.execute("CLIENT", "KILL", "ID", id); }

std::uint64_t lost(const client& redis) { return seam::lost_tracked_lanes(redis); }

std::int64_t id_of(const client& redis) { return redis.execute("CLIENT", "ID").integer(); }

}  // namespace

TEST_CASE("T13: the end of an idle connection is noticed although no thread uses it") {
  support::need_redis();
  const testing::redis_server server;
  const client redis{server.url()};
  const client other{server.url()};
  seam::watch_tracked_lanes(redis);
  const std::int64_t first = id_of(redis);
  CHECK(lost(redis) == 0);
  kill(other, first);
  REQUIRE(eventually([&] { return lost(redis) > 0; }));

  SECTION("and its next connection is watched as well") {
    const std::int64_t second = id_of(redis);
    CHECK(second != first);
    const std::uint64_t before = lost(redis);
    kill(other, second);
    CHECK(eventually([&] { return lost(redis) > before; }));
  }
  SECTION("and no call fails") {
    CHECK(redis.execute("PING").str() == "PONG");
    CHECK(redis.metrics().lanes.front().connection_losses == 1);
  }
}

TEST_CASE("T13: a connection that was there before the watch is watched") {
  support::need_redis();
  const testing::redis_server server;
  const client redis{server.url()};
  const client other{server.url()};
  const std::int64_t id = id_of(redis);
  seam::watch_tracked_lanes(redis);
  kill(other, id);
  CHECK(eventually([&] { return lost(redis) > 0; }));
}

TEST_CASE("T13: the connection of coroutines is counted when it ends") {
  support::need_redis();
  const testing::redis_server server;
  const client redis{server.url()};
  const client other{server.url()};
  auto asking = redis.async_execute("CLIENT", "ID");
  const std::int64_t id = sync_wait(std::move(asking)).integer();
  kill(other, id);
  CHECK(eventually([&] { return lost(redis) > 0; }));
}

TEST_CASE("a connection counts as lost before there is another one") {
  support::need_redis();
  const testing::redis_server server;
  const client redis{server.url()};
  const client other{server.url()};
  seam::watch_tracked_lanes(redis);
  std::int64_t last = id_of(redis);
  for (std::uint64_t times = 1; times <= 20; ++times) {
    kill(other, last);
    std::int64_t now = last;
    while (now == last) {  // a call may still go to the one that ends, and fail
      try {
        now = id_of(redis);
      } catch (const connection_error&) {
      }
    }
    CHECK(lost(redis) >= times);
    last = now;
  }
}

TEST_CASE("tracked commands go together, and callers cannot send them") {
  support::need_redis();
  const testing::redis_server server;
  const client redis{server.url()};
  redis.execute("SET", "k", "v");
  std::vector<command> all;
  all.push_back(command{"CLIENT", "TRACKING", "ON", "OPTIN"});
  all.push_back(command{"CLIENT", "CACHING", "YES"});
  all.push_back(command{"GET", "k"});
  const std::vector<reply> replies = seam::execute_tracked(redis, all);
  CHECK(replies[0].str() == "OK");
  CHECK(replies[1].str() == "OK");
  CHECK(replies[2].str() == "v");
  CHECK_THROWS_AS(redis.execute("CLIENT", "CACHING", "YES"), error);
  CHECK_THROWS_AS(redis.execute_all(all), error);
}
