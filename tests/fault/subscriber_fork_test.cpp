// Subscribers and followers in a process that forks.

#include "support/cache_rig.hpp"
#include "support/child_process.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/sanitized.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::eventually;
using support::in_child;
using support::next_of;
using support::numbers_at_full_speed;
using support::redis_rig;
using support::roomy;
using support::text_feed;

const tn::tenant_id acme{"acme"};

template <class Event>
bool is_end_of_child(const std::optional<Event>& event) {
  const auto* const end = event ? std::get_if<tn::closed>(&*event) : nullptr;
  return end != nullptr && end->why && end->why->code() == tn::errc::forked &&
         end->why->execution() == tn::execution::not_sent;
}

/// 0 where the call fails with `forked`, unsent.
int refused(auto&& call) {
  try {
    call();
    return 1;
  } catch (const tn::connection_error& why) {
    return why.code() == tn::errc::forked && why.execution() == tn::execution::not_sent ? 0 : 2;
  }
}

}  // namespace

TEST_CASE("a subscription of the parent ends in the child of a fork, whatever its threads were doing") {
  const support::must_end watch{110s};
  const redis_rig redis;
  auto sub = std::make_unique<tn::subscriber>(redis.client);
  std::optional<text_feed> feed = sub->subscribe<std::string>(alarms(acme), {.capacity = 10});
  auto quiet = sub->subscribe<std::string>(support::news(acme, "quiet"));
  support::follower all{sub->subscribe<std::string>(alarms(acme), roomy)};
  numbers_at_full_speed numbers{redis_rig::server().unix_url(), alarms(acme)};
  REQUIRE(eventually([&] { return all.messages > 0; }));
  for (int i = 0; i < 60; ++i) {
    CAPTURE(i);
    CHECK(in_child([&] {
            if (i % 3 == 0 && !is_end_of_child(feed->next())) return 1;
            if (i % 3 == 1 && !is_end_of_child(feed->try_next())) return 2;
            if (i % 3 == 2 && !is_end_of_child(tn::sync_wait(feed->async_next()))) return 3;
            if (feed->next() || feed->next_for(1h) || tn::sync_wait(feed->async_next())) return 4;
            quiet.unsubscribe();
            if (quiet.next()) return 5;
            if (feed->counters().received != 0 || sub->counters().messages != 0) return 6;
            if (refused([&] { (void)sub->subscribe<std::string>(alarms(acme)); }) != 0) return 7;
            if (refused([&] { (void)tn::sync_wait(sub->async_subscribe<std::string>(alarms(acme))); }) != 0) return 8;
            if (i % 2 == 0) feed.reset();
            sub.reset();
            feed.reset();
            return 0;
          }) == 0);
  }
  const std::uint64_t last = numbers.stop();
  REQUIRE(eventually([&] { return all.last == last; }));
  CHECK(all.missing == 0);
  CHECK(all.disordered == 0);
  CHECK(all.gaps == 0);
  CHECK(sub->counters().outages == 0);
  CHECK_FALSE(quiet.try_next());
  const tn::publisher pub{redis.client};
  CHECK(pub.publish(support::news(acme, "quiet"), "goes on") == 1);
  CHECK(next_of(quiet) == "goes on");
}

TEST_CASE("a child of a fork that ends the subscriber and the client keeps no connection open, and can have its own") {
  const redis_rig direct;
  auto redis = std::make_unique<tn::client>(redis_rig::server().url());
  auto sub = std::make_unique<tn::subscriber>(*redis);
  std::optional<text_feed> feed = sub->subscribe<std::string>(alarms(acme));
  CHECK(in_child([&] {
          feed.reset();
          sub.reset();
          redis.reset();
          if (support::sanitized) return 0;  // ThreadSanitizer allows such a child no thread
          const tn::client own{redis_rig::server().url()};
          tn::subscriber another{own};
          auto mine = another.subscribe<std::string>(alarms(acme));
          const tn::publisher pub{own};
          if (pub.publish(alarms(acme), "both") != 2) return 1;
          return next_of(mine) == "both" ? 0 : 2;
        }) == 0);
  const tn::publisher pub{direct.client};
  REQUIRE(eventually([&] { return support::listening(direct.client, alarms(acme)) == 1; }));  // the child's has ended
  CHECK(pub.publish(alarms(acme), "parent") == 1);
  if (!support::sanitized) CHECK(next_of(*feed) == "both");
  CHECK(next_of(*feed) == "parent");
  CHECK(sub->counters().outages == 0);
  feed.reset();
  CHECK(eventually([&] { return support::listening(direct.client, alarms(acme)) == 0; }));
}

TEST_CASE("a follower of the parent ends in the child of a fork, and goes on in the parent") {
  const support::must_end watch;
  const redis_rig redis;
  const tn::event_log<std::string> log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  auto feed = log.follow(sub, acme);
  log.append(acme, "first");
  CHECK(in_child([&] {
          if (!is_end_of_child(feed.next())) return 1;
          if (feed.next() || tn::sync_wait(feed.async_next())) return 2;
          if (refused([&] { (void)log.follow(sub, acme); }) != 0) return 3;
          return refused([&] { (void)log.append(acme, "of the child"); });
        }) == 0);
  log.append(acme, "second");
  for (const char* const expected : {"first", "second"}) {
    const auto event = feed.next_for(20s);
    REQUIRE(event);
    REQUIRE(std::holds_alternative<tn::logged<std::string>>(*event));
    CHECK(std::get<tn::logged<std::string>>(*event).value == expected);
  }
}
