// How consumers end, and what they cannot do.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::on_thread;
using support::redis_rig;

inline constexpr tn::channel_schema<"alarms:{tenant}"> alarms;
const tn::tenant_id acme{"acme"};
using text_log = tn::event_log<std::string>;
using text_consumer = tn::consumer<std::string>;
using text_work = tn::work<std::string>;
constexpr std::string_view stream = "log:{acme}:alarms";

/// Consumers that begin from here on have asked Redis once when this is true.
struct first_request {
  explicit first_request(const redis_rig& on) : redis{on} { redis.client.execute("CONFIG", "RESETSTAT"); }
  bool operator()() const { return redis.calls("hmget") > 0; }
  const redis_rig& redis;
};

}  // namespace

TEST_CASE("a stop, the end of a subscriber and the end of a client end consumers that wait") {
  const redis_rig redis;
  SECTION("stop_token") {
    const text_log log{redis.client, alarms};
    tn::subscriber sub{redis.client};
    auto idle = log.consume(sub, acme, "g", [](const text_work&) {});
    std::stop_source stop;
    auto ended = on_thread([&] { idle.run(stop.get_token()); });
    REQUIRE(eventually([&] { return redis.client.execute("PUBSUB", "NUMSUB", stream)[1].integer() == 1; }));
    stop.request_stop();
    ended.get();
  }
  SECTION("stop before run") {
    const text_log log{redis.client, alarms};
    tn::subscriber sub{redis.client};
    auto idle = log.consume(sub, acme, "g", [](const text_work&) {});
    idle.stop();
    idle.run();
    tn::sync_wait(idle.async_run());
  }
  SECTION("subscriber, of a thread") {
    const text_log log{redis.client, alarms};
    std::optional<tn::subscriber> sub;
    sub.emplace(redis.client);
    const first_request asked{redis};
    auto idle = log.consume(*sub, acme, "g", [](const text_work&) {});
    auto ended = on_thread([&] { idle.run(); });
    REQUIRE(eventually(asked));
    sub.reset();
    ended.get();
  }
  SECTION("client, of a coroutine") {
    tn::client own{redis_rig::server().url()};
    const first_request asked{redis};
    const text_log log{own, alarms};
    tn::subscriber sub{own};
    auto idle = log.consume(sub, acme, "g", [](const text_work&) {});
    auto ended = on_thread([&] { tn::sync_wait(idle.async_run()); });
    REQUIRE(eventually(asked));
    own.close(5s);
    ended.get();
  }
}

TEST_CASE("what a consumer cannot do says what and where") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const auto nothing = [](const text_work&) {};
  CHECK_THROWS_AS(log.consume(sub, acme, "", nothing), tn::invalid_option);
  CHECK_THROWS_AS(log.consume(sub, acme, "g", nothing, {.batch = 0}), tn::invalid_option);
  CHECK_THROWS_AS(log.consume(sub, acme, "g", nothing, {.batch = 1001}), tn::invalid_option);
  CHECK_THROWS_AS(log.consume(sub, acme, "g", nothing, {.max_attempts = 0}), tn::invalid_option);
  CHECK_THROWS_AS(log.consume(sub, acme, "g", nothing, {.retry_after = -1ms}), tn::invalid_option);
  CHECK_THROWS_AS(log.consume(sub, acme, "g", nothing, {.claim_after = 1ms}), tn::invalid_option);
  CHECK_THROWS_AS(log.consume(sub, acme, "g", nothing, {.keep_dead = 0}), tn::invalid_option);
  const auto longest = std::chrono::milliseconds::max();
  CHECK_THROWS_AS(log.consume(sub, acme, "g", nothing, {.retry_after = longest}), tn::invalid_option);
  CHECK_THROWS_AS(log.consume(sub, acme, "g", nothing, {.claim_after = longest}), tn::invalid_option);
  redis.client.execute("SET", stream, "no stream");
  redis.client.execute("HSET", "log:{acme}:alarms#meta", "e", "aaaaaaaaaaaaaaaa", "s", 1);
  auto worker = log.consume(sub, acme, "g", nothing);
  CHECK_THROWS_AS(worker.run(), tn::server_error);
  CHECK_THROWS_AS(tn::sync_wait(worker.async_run()), tn::server_error);
}

TEST_CASE("what cannot be decoded is a dead letter at once, and the next one follows") {
  const redis_rig redis;
  const text_log texts{redis.client, alarms};
  const tn::event_log<std::vector<int>> numbers{redis.client, alarms};
  tn::subscriber sub{redis.client};
  std::atomic<int> sum{0};
  auto consumer = numbers.consume(sub, acme, "sum", [&](const tn::work<std::vector<int>>& w) {
    for (const int each : w.value) sum += each;
  });
  auto ended = on_thread([&] { consumer.run(); });
  numbers.append(acme, {1, 2});
  texts.append(acme, "no numbers");
  numbers.append(acme, {3});
  CHECK(eventually([&] { return sum == 6; }));
  CHECK(eventually([&] { return numbers.dead_letters(acme, "sum").size() == 1; }));
  CHECK(numbers.dead_letters(acme, "sum")[0].attempts == 1);
  consumer.stop();
  ended.get();
  CHECK(consumer.counters().handled == 2);
}

TEST_CASE("a group may be named with any bytes") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const std::string name{"*\0\r\n:{x}", 8};
  const std::string id = log.append(acme, "x");
  std::optional<text_consumer> worker;
  worker.emplace(log.consume(sub, acme, name,
                             [&](const text_work& w) {
                               worker->stop();
                               if (w.id() == id) throw 1;
                             },
                             {.max_attempts = 1, .keep_dead = std::numeric_limits<std::uint64_t>::max()}));
  worker->run();
  const auto letters = log.dead_letters(acme, name, std::numeric_limits<std::size_t>::max());
  REQUIRE(letters.size() == 1);
  CHECK(letters[0].why == "an exception that is none of the standard library");
}
