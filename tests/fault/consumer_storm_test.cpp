// Consumers in many processes, of several tenants and groups, that are killed, stand still, stop and throw at random.

#include "support/processes.hpp"
#include "support/redis_probe.hpp"
#include "support/sanitized.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;

inline constexpr tn::channel_schema<"jobs:{tenant}"> jobs;
using number_log = tn::event_log<int>;
using number_work = tn::work<int>;

const std::array tenants{tn::tenant_id{"acme"}, tn::tenant_id{"globex"}, tn::tenant_id{"initech"}};
const std::array<std::string, 2> groups{"mail", "archive"};
constexpr int events_of_each = 150;
constexpr std::size_t most_processes = 100;
constexpr int per_tenant = 1000;  // the number of an event tells its tenant

/// What happened in all processes.
struct tally {
  std::array<std::array<std::array<std::atomic<int>, events_of_each>, 3>, 2> handled{};
  std::atomic<int> foreign{0};
  std::array<std::atomic<bool>, most_processes> stop{};
};

/// The same in each attempt and process: some fail once, some always.
bool fails(int event, std::size_t group, std::uint32_t attempt) {
  const int kind = (event * 7 + static_cast<int>(group) * 3) % 20;
  return kind == 0 || (kind < 4 && attempt == 1);
}

tn::client_options patient(const tn::testing::redis_server& server) {
  auto options = tn::client_options::from_url(server.url());
  options.timeout = 20s;
  return options;
}

/// A consumer for each tenant and group, each on a thread.
int consumes(const tn::testing::redis_server& server, tally& shared, std::size_t self) {
  const tn::client redis{patient(server)};
  const number_log log{redis, jobs, {.timeout = 20s}};
  tn::subscriber sub{redis};
  std::list<tn::consumer<int>> consumers;
  const tn::consume_options how{
      .batch = 6, .max_attempts = 6, .retry_after = 20ms, .claim_after = support::sanitized ? 1500ms : 400ms};
  for (std::size_t t = 0; t < tenants.size(); ++t) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      consumers.push_back(log.consume(
          sub, tenants[t], groups[g],
          [&shared, t, g](const number_work& w) {
            if (w.value / per_tenant != static_cast<int>(t)) ++shared.foreign;
            std::this_thread::sleep_for(500us);  // so that there is something to be killed in
            if (fails(w.value, g, w.attempt())) throw std::runtime_error{"no"};
            ++shared.handled[g][t][std::size_t(w.value % per_tenant)];
          },
          how));
    }
  }
  std::vector<std::jthread> threads;
  threads.reserve(consumers.size());
  for (auto& each : consumers) threads.emplace_back([&each] { each.run(); });
  while (!shared.stop[self]) std::this_thread::sleep_for(2ms);
  for (auto& each : consumers) each.stop();
  return 0;
}

struct member {
  support::process process;
  std::size_t number;
  bool paused = false;
};

}  // namespace

TEST_CASE("whatever happens to consumers, each group handles each event of each tenant, or says why not") {
  support::need_redis();
  const tn::testing::redis_server server;
  const support::shared_memory<tally> shared;
  std::size_t number = 0;
  const auto another = [&] {
    const std::size_t self = number++;
    REQUIRE(self < most_processes);
    return member{.process = support::process{[&, self] { return consumes(server, *shared, self); }}, .number = self};
  };
  std::vector<member> members;
  for (int i = 0; i < 4; ++i) members.push_back(another());
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::minstd_rand random{seed};
  const tn::client redis{patient(server)};
  const number_log log{redis, jobs, {.timeout = 20s}};
  for (int i = 0; i < events_of_each; ++i) {
    for (std::size_t t = 0; t < tenants.size(); ++t) log.append(tenants[t], static_cast<int>(t) * per_tenant + i);
    std::this_thread::sleep_for(std::chrono::milliseconds{random() % 6});  // any schedule will do
    if (i % 8 != 7) continue;
    member& which = members[random() % members.size()];
    switch (random() % 4) {
      case 0:
        which = another();  // the one before is killed
        break;
      case 1:
        if (!which.paused) which.paused = which.process.pause();
        break;
      case 2:
        which.process.resume();
        shared->stop[which.number] = true;
        CHECK(which.process.result() == 0);
        which = another();
        break;
      default:
        which.process.resume();
        which.paused = false;
        break;
    }
  }
  for (const member& each : members) each.process.resume();

  for (std::size_t t = 0; t < tenants.size(); ++t) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      INFO(tenants[t].str() << ", " << groups[g]);
      const std::string stream = "log:{" + tenants[t].str() + "}:jobs";
      const auto missing = [&] {
        std::set<std::string> dead;
        for (const auto& letter : log.dead_letters(tenants[t], groups[g], 1000)) dead.insert(letter.payload);
        int count = 0;
        for (int i = 0; i < events_of_each; ++i) {
          const std::string event = std::to_string(static_cast<int>(t) * per_tenant + i);
          if (shared->handled[g][t][std::size_t(i)] == 0 && !dead.contains(event)) ++count;
        }
        return count;
      };
      CHECK(eventually([&] { return missing() == 0; }));
      CHECK(missing() == 0);
      CHECK(eventually([&] { return redis.execute("XPENDING", stream, groups[g])[0].integer() == 0; }));
      for (const auto& letter : log.dead_letters(tenants[t], groups[g], 1000)) {
        INFO(letter.payload);
        const int event = std::stoi(letter.payload);
        CHECK(letter.attempts == 6);
        CHECK((letter.why == "no" || letter.why == "nobody who was given it said what became of it"));
        CHECK(event / per_tenant == static_cast<int>(t));
      }
    }
  }
  CHECK(shared->foreign == 0);
  for (const member& each : members) shared->stop[each.number] = true;
  for (member& each : members) CHECK(each.process.result() == 0);
}
