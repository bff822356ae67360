// Consumers of a server that answers, and takes no writes for now.

#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <chrono>
#include <string>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;

inline constexpr tn::channel_schema<"jobs:{tenant}"> jobs;
const tn::tenant_id acme{"acme"};

/// How a server is made to refuse writes, and what it says.
struct refusal {
  const char* option;
  const char* on;
  const char* off;
  const char* word;
};

int times(const tn::client& redis, const std::string& word) {
  const std::string text = redis.execute("INFO", "errorstats").str();
  const std::string entry = "errorstat_" + word + ":count=";
  const auto at = text.find(entry);
  return at == std::string::npos ? 0 : std::stoi(text.substr(at + entry.size()));
}

}  // namespace

TEST_CASE("a consumer waits while its server takes no writes, and goes on when it does") {
  support::need_redis();
  const support::must_end watch{100s};
  const auto how =
      GENERATE(refusal{"maxmemory", "1", "0", "OOM"}, refusal{"min-replicas-to-write", "1", "0", "NOREPLICAS"});
  const bool coroutine = GENERATE(false, true);
  CAPTURE(how.word, coroutine);
  const tn::testing::redis_server server;
  auto options = tn::client_options::from_url(server.url());
  options.timeout = 20s;
  const tn::client redis{options};
  const tn::event_log<int> log{redis, jobs, {.timeout = 20s}};
  tn::subscriber sub{redis};
  for (int i = 0; i < 6; ++i) log.append(acme, i);
  redis.execute("CONFIG", "SET", how.option, how.on);
  auto worker = log.consume(sub, acme, "g", [](const tn::work<int>&) {}, {.batch = 2, .claim_after = 60s});
  auto ended = support::on_thread([&] { coroutine ? tn::sync_wait(worker.async_run()) : worker.run(); });
  CHECK(eventually([&] { return times(redis, how.word) >= 3; }));
  redis.execute("CONFIG", "SET", how.option, how.off);
  CHECK(eventually([&] { return worker.counters().handled == 6; }));
  worker.stop();
  CHECK_NOTHROW(ended.get());
  CHECK(log.dead_letters(acme, "g").empty());
}
