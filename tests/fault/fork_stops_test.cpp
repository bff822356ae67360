// Stops and ends in the child of a fork, where threads of the parent are in the middle of others.

#include "support/cache_rig.hpp"
#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/processes.hpp"

#include <tenantry/client.hpp>
#include <tenantry/command.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/subscriber.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <stop_token>
#include <string>
#include <utility>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::alarms;
using support::eventually;
using support::in_child;
using support::redis_rig;

tn::client_options patient() {
  auto options = tn::client_options::from_url(redis_rig::server().url());
  options.timeout = 60s;
  return options;
}

bool one_waits(const tn::client& redis) {
  return redis.execute("INFO", "clients").str().find("blocked_clients:1") != std::string::npos;
}

}  // namespace

TEST_CASE("the child of a fork: a stop reaches its calls, whatever the thread that forked is doing") {
  const redis_rig redis;
  const tn::client client{patient()};
  const std::stop_source never;
  const auto stoppable = client.with({.stop = never.get_token()});
  stoppable.execute("PING");  // this thread has what stops its calls, which the child inherits
  support::process child{[] {
    const tn::client own{patient()};
    const tn::client looks{patient()};
    auto alone = own.exclusive();
    for (int i = 0; i < 300; ++i) {
      std::stop_source stop;
      auto stopping = support::on_thread([&] {
        if (!eventually([&] { return one_waits(looks); })) return;
        stop.request_stop();
      });
      try {
        alone.execute(tn::command{"BLPOP", "nothing", "0"}, {.timeout = 60s, .stop = stop.get_token()});
      } catch (const tn::error& why) {
        if (why.code() != tn::errc::cancelled) return 1;
      }
      stopping.get();
      alone = own.exclusive();
    }
    return 0;
  }};
  const support::must_end ends{110s};
  while (!child.has_ended()) stoppable.execute("PING");
  CHECK(child.result() == 0);
}

TEST_CASE("the child of a fork: a consumer that is assigned to waits for no thread of the parent") {
  const support::must_end ends{110s};
  const redis_rig redis;
  support::gate inside;
  support::gate release;
  auto options = patient();
  options.observer = [&](const tn::event& what) {
    if (what.name != tn::events::unsubscribed) return;
    inside.open();
    release.wait();
  };
  const tn::client client{options};
  tn::subscriber sub{client};
  const tn::event_log<std::string> log{client, alarms};
  const auto ignored = [](const tn::work<std::string>&) {};
  auto working = log.consume(sub, acme, "billing", ignored);
  auto other = log.consume(sub, acme, "billing", ignored);
  auto running = support::on_thread([&] { working.run(); });
  const support::opens_at_end opens{release};
  log.append(acme, "event");
  REQUIRE(eventually([&] { return working.counters().handled == 1; }));
  auto stopping = support::on_thread([&] { working.stop(); });
  REQUIRE(inside.wait());
  const int left = in_child([&] {
    working = std::move(other);
    return 0;
  });
  CHECK(left == 0);
  release.open();
  stopping.get();
  running.get();
}
