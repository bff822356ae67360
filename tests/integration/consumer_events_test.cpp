// What consumers tell an observer and count, and what is left of them when they have ended.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/listener.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <atomic>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::on_thread;
using support::redis_rig;

inline constexpr tn::channel_schema<"alarms:{tenant}"> alarms;
const tn::tenant_id acme{"acme"};
constexpr std::string_view stream = "log:{acme}:alarms";
using number_log = tn::event_log<int>;
using number_work = tn::work<int>;

}  // namespace

TEST_CASE("the observer is told of each attempt that failed, of dead letters, and of events that were not kept") {
  const redis_rig redis;
  support::listener heard;
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.observer = heard.ear();
  options.timeout = 20s;
  const tn::client own{options};
  const number_log log{own, alarms, {.keep = 3, .timeout = 20s}};
  tn::subscriber sub{own};
  for (int i = 1; i <= 5; ++i) log.append(acme, i);  // 1 and 2 are not kept
  redis.client.execute("XGROUP", "CREATE", stream, "g", 0);
  // 3 was given to one that died, in its last attempt.
  redis.client.execute("XREADGROUP", "GROUP", "g", "dead", "COUNT", 1, "STREAMS", stream, ">");
  redis.client.execute("XCLAIM", stream, "g", "dead", 0, "3-0", "IDLE", 86400000, "RETRYCOUNT", 2, "JUSTID");
  // 2 was the latest that it was given before, as far as the group knows.
  redis.client.execute("XGROUP", "SETID", stream, "g", "3-0");
  auto worker = log.consume(sub, acme, "g",
                            [](const number_work& w) {
                              if (w.value == 4) throw std::runtime_error{"no"};
                            },
                            {.max_attempts = 2, .retry_after = 1ms});
  auto ended = on_thread([&] { worker.run(); });
  CHECK(eventually([&] { return heard.all(tn::events::dead_letter).size() == 2; }));
  for (int i = 6; i <= 6; ++i) log.append(acme, i);
  CHECK(eventually([&] { return worker.counters().handled == 2; }));
  worker.stop();
  ended.get();
  const auto failed = heard.all(tn::events::work_failed);
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].text.at("tenant") == "acme");
  CHECK(failed[0].text.at("group") == "g");
  CHECK(failed[0].text.at("detail") == "no");
  CHECK(failed[0].number.at("attempt") == 1);
  const auto dead = heard.all(tn::events::dead_letter);
  REQUIRE(dead.size() == 2);
  CHECK(dead[0].number.at("count") == 1);
  CHECK(dead[1].number.at("attempt") == 2);
  CHECK(worker.counters().dead == 2);

  for (int i = 7; i <= 11; ++i) log.append(acme, i);  // 7 and 8 are not kept
  std::stop_source stop;
  auto other = log.consume(sub, acme, "g", [&](const number_work& w) {
    if (w.value == 11) stop.request_stop();
  });
  other.run(stop.get_token());
  CHECK(other.counters().lost == 2);
  const auto lost = heard.all(tn::events::work_lost);
  REQUIRE(lost.size() == 1);
  CHECK(lost[0].number.at("count") == 2);
}

TEST_CASE("counters are those of all runs, and a consumer that has ended listens to nothing") {
  const redis_rig redis;
  const number_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const bool coroutine = GENERATE(false, true);
  std::optional<std::stop_source> stop;
  auto worker = log.consume(sub, acme, "g", [&](const number_work&) { stop->request_stop(); });
  for (int i = 1; i <= 3; ++i) {
    stop.emplace();
    log.append(acme, i);
    if (coroutine) {
      tn::sync_wait(worker.async_run(stop->get_token()));
    } else {
      worker.run(stop->get_token());
    }
    CHECK(worker.counters().handled == static_cast<std::uint64_t>(i));
    CHECK(eventually([&] { return redis.client.execute("PUBSUB", "NUMSUB", stream)[1].integer() == 0; }));
    CHECK(redis.client.execute("XINFO", "CONSUMERS", stream, "g").elements().empty());
  }
}

TEST_CASE("a consumer that waits for long is woken up by an event, by stop and by its token") {
  const redis_rig redis;
  const number_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const bool coroutine = GENERATE(false, true);
  const bool by_token = GENERATE(false, true);
  std::atomic<int> handled{0};
  auto worker = log.consume(sub, acme, "g", [&](const number_work&) { ++handled; }, {.claim_after = 24h});
  std::stop_source stop;
  auto ended = on_thread([&] {
    if (coroutine) {
      tn::sync_wait(worker.async_run(stop.get_token()));
    } else {
      worker.run(stop.get_token());
    }
  });
  log.append(acme, 0);
  REQUIRE(eventually([&] { return handled == 1; }));
  REQUIRE(eventually([&] { return redis.client.execute("XPENDING", stream, "g")[0].integer() == 0; }));
  log.append(acme, 1);
  CHECK(eventually([&] { return handled == 2; }));
  REQUIRE(eventually([&] { return redis.client.execute("XPENDING", stream, "g")[0].integer() == 0; }));
  if (by_token) {
    stop.request_stop();
  } else {
    worker.stop();
  }
  ended.get();
}
