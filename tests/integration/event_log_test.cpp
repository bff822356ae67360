// Event logs against a real server.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/random_bytes.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::redis_rig;

inline constexpr tn::channel_schema<"alarms:{tenant}"> alarms;
inline constexpr tn::channel_schema<"news:{tenant}:sport"> sport;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};
constexpr auto patience = 20s;
using text_log = tn::event_log<std::string>;
using text_follower = tn::follower<std::string>;

struct heard {
  std::string what;
  std::string id;
};

/// The next event in words.
heard next(text_follower& from, std::chrono::milliseconds at_most = patience) {
  auto event = from.next_for(at_most);
  if (!event) return {"nothing", {}};
  if (const auto* came = std::get_if<tn::logged<std::string>>(&*event)) return {came->value, std::string{came->id()}};
  if (const auto* end = std::get_if<tn::closed>(&*event)) return {"closed: " + std::string{to_string(end->cause)}, {}};
  const auto& missed = std::get<tn::gap>(*event);
  return {std::string{to_string(missed.cause)} + (missed.lost ? '(' + std::to_string(*missed.lost) + ')' : ""),
          missed.id};
}

}  // namespace

TEST_CASE("events are kept, published on the channel as they are, and followed from any of them on") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  auto plain = sub.subscribe<std::string>(alarms(acme));
  std::vector<std::string> ids;
  for (int i = 1; i <= 5; ++i) ids.push_back(log.append(acme, std::to_string(i)));
  log.append(globex, "other");
  for (int i = 1; i <= 5; ++i) {
    CHECK(std::get<tn::message<std::string>>(*plain.next_for(patience)).value == std::to_string(i));
  }
  auto from_two = log.follow(sub, acme, ids[1]);
  auto from_now = log.follow(sub, acme);
  log.append(acme, "6");
  for (int i = 3; i <= 6; ++i) {
    const heard event = next(from_two);
    CHECK(event.what == std::to_string(i));
    if (i <= 5) CHECK(event.id == ids[static_cast<std::size_t>(i - 1)]);
  }
  CHECK(next(from_now).what == "6");
  CHECK(next(from_now, 10ms).what == "nothing");
  CHECK(redis.client.execute("XLEN", "log:{acme}:alarms").integer() == 6);
}

TEST_CASE("a log keeps so many events, and tells who resumes earlier how many are lost") {
  const redis_rig redis;
  const text_log log{redis.client, alarms, {.keep = 3}};
  tn::subscriber sub{redis.client};
  std::vector<std::string> ids;
  for (int i = 1; i <= 10; ++i) ids.push_back(log.append(acme, std::to_string(i)));
  auto late = log.follow(sub, acme, ids[2]);
  CHECK(next(late).what == "trimmed(4)");
  CHECK(next(late).what == "8");
  auto just = log.follow(sub, acme, ids[6]);
  CHECK(next(just).what == "8");
  auto few = log.follow(sub, acme, ids[6], {.max_replay = 1});
  CHECK(next(few).what == "too_far(2)");
  CHECK(next(few).what == "10");
}

TEST_CASE("ids of another tenant, of another log, and of nobody are gaps, and show nothing of others") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const std::string theirs = log.append(globex, "secret");
  log.append(acme, "ours");
  auto foreign = log.follow(sub, acme, theirs);
  const heard reset = next(foreign);
  CHECK(reset.what == "reset");
  CHECK(reset.id.find(theirs.substr(0, 16)) == std::string::npos);
  CHECK(next(foreign).what == "ours");
  CHECK(next(foreign, 10ms).what == "nothing");
  for (const char* text : {"$", "+", "", "0-0", "\r\nid: x"}) {
    auto invalid = log.follow(sub, acme, text);
    CHECK(next(invalid).what == "invalid_id");
    CHECK(next(invalid, 5ms).what == "nothing");
  }
}

TEST_CASE("a deleted log, a lost meta and a stream of somebody else begin a new epoch") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const std::string first = log.append(acme, "1");
  auto feed = log.follow(sub, acme);
  redis.client.execute("DEL", "log:{acme}:alarms", "log:{acme}:alarms#meta");
  const std::string second = log.append(acme, "2");
  CHECK(second.substr(0, 16) != first.substr(0, 16));
  CHECK(second.find("-1-") != std::string::npos);
  CHECK(next(feed).what == "reset");
  CHECK(next(feed).what == "2");
  redis.client.execute("DEL", "log:{acme}:alarms#meta");
  log.append(acme, "3");
  CHECK(next(feed).what == "reset");
  CHECK(next(feed).what == "3");
  CHECK(redis.client.execute("XLEN", "log:{acme}:alarms").integer() == 1);
  redis.client.execute("DEL", "log:{acme}:alarms");
  redis.client.execute("XADD", "log:{acme}:alarms", "99-0", "x", "y");
  log.append(acme, "4");
  CHECK(next(feed).what == "reset");
  CHECK(next(feed).what == "4");
}

TEST_CASE("a key of another type is an error of the append, which changes nothing") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  redis.client.execute("SET", "log:{acme}:alarms", "foreign");
  CHECK_THROWS_AS(log.append(acme, "1"), tn::server_error);
  CHECK(redis.client.execute("EXISTS", "log:{acme}:alarms#meta").integer() == 0);
  redis.client.execute("DEL", "log:{acme}:alarms");
  redis.client.execute("SET", "log:{acme}:alarms#meta", "foreign");
  CHECK_THROWS_AS(log.append(acme, "1"), tn::server_error);
  CHECK(redis.client.execute("EXISTS", "log:{acme}:alarms").integer() == 0);
}

TEST_CASE("an event with an idempotency key is appended once") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  const std::string id = log.append_once(acme, "a", "alarm:1");
  CHECK(log.append_once(acme, "a again", "alarm:1") == id);
  CHECK(log.append_once(globex, "a", "alarm:1") != id);
  CHECK(tn::sync_wait(log.async_append_once(acme, "b", "alarm:2")) != id);
  CHECK(redis.client.execute("XLEN", "log:{acme}:alarms").integer() == 2);
  CHECK(redis.client.execute("PTTL", "log:{acme}:alarms#once:alarm%3A1").integer() > 0);
  redis.client.execute("DEL", "log:{acme}:alarms", "log:{acme}:alarms#meta");
  CHECK(log.append_once(acme, "a", "alarm:1") != id);  // that log is gone, and the event with it
  CHECK(redis.client.execute("XLEN", "log:{acme}:alarms").integer() == 1);
}

TEST_CASE("a log with a life expires, others do not; its announcement can be left out; long events are refused") {
  const redis_rig redis;
  const text_log brief{redis.client, sport, {.life = 1h, .announce = tn::announce::nobody, .max_payload = 10}};
  tn::subscriber sub{redis.client};
  auto plain = sub.subscribe<std::string>(sport(acme));
  auto feed = brief.follow(sub, acme);
  brief.append(acme, "1");
  CHECK(next(feed).what == "1");
  CHECK_FALSE(plain.try_next());
  CHECK(redis.client.execute("PTTL", "log:{acme}:news:sport").integer() > 0);
  CHECK(redis.client.execute("PTTL", "log:{acme}:news:sport#meta").integer() >
        redis.client.execute("PTTL", "log:{acme}:news:sport").integer());
  CHECK_THROWS_AS(brief.append(acme, "12345678901"), tn::invalid_option);
  const text_log kept{redis.client, alarms};
  kept.append(acme, "1");
  CHECK(redis.client.execute("PTTL", "log:{acme}:alarms").integer() == -1);
}

TEST_CASE("connections that are lost and queues that are full cost a follower no event, and no gap") {
  const redis_rig redis;
  const text_log log{redis.client, alarms, {.keep = 1'000'000}};
  tn::subscriber sub{redis.client};
  auto feed = log.follow(sub, acme, std::nullopt, {.capacity = 16});
  std::atomic<bool> done = false;
  constexpr int events = 3000;
  std::thread appending{[&] {
    for (int i = 0; i < events; ++i) log.append(acme, std::to_string(i));
    done = true;
  }};
  std::thread killing{[&] {
    while (!done) {
      redis.client.execute("CLIENT", "KILL", "TYPE", "pubsub");
      std::this_thread::sleep_for(3ms);
    }
  }};
  int seen = 0;
  bool in_order = true;
  while (seen < events && in_order) {
    in_order = next(feed).what == std::to_string(seen);
    if (in_order) ++seen;
    if (seen % 500 == 0) std::this_thread::sleep_for(20ms);  // the queue fills
  }
  CHECK(seen == events);
  appending.join();
  killing.join();
  CHECK(next(feed, 20ms).what == "nothing");
}

TEST_CASE("who resumes at any point under full-speed appending gets each event once, in order") {
  const redis_rig redis;
  support::random_bytes random;
  const text_log log{redis.client, alarms, {.keep = 1'000'000}};
  tn::subscriber sub{redis.client};
  const std::jthread appending{[&](const std::stop_token& stop) {
    for (int i = 0; !stop.stop_requested(); ++i) log.append(acme, std::to_string(i));
  }};
  std::optional<std::string> last;
  int expected = -1;
  for (int round = 0; round < 1000; ++round) {
    const std::optional<std::string_view> from = last ? std::optional<std::string_view>{*last} : std::nullopt;
    auto feed = log.follow(sub, acme, from, {.max_replay = 10'000'000});
    const std::size_t count = 1 + random.below(5);
    for (std::size_t i = 0; i < count; ++i) {
      const heard event = next(feed);
      INFO("round " << round << ", event " << i << ": " << event.what);
      REQUIRE(event.what.find_first_not_of("0123456789") == std::string::npos);
      const int number = std::stoi(event.what);
      if (expected >= 0) REQUIRE(number == expected);
      expected = number + 1;
      last = event.id;
    }
  }
}

TEST_CASE("a server that comes back without the end of a log is noticed, also when offsets are used again") {
  support::need_redis();
  tn::testing::redis_server server{{.arguments = {"--appendonly", "no"}}};
  const tn::client redis{server.url()};
  const text_log log{redis, alarms};
  tn::subscriber sub{redis};
  for (int i = 1; i <= 3; ++i) log.append(acme, std::to_string(i));
  const std::string stream = redis.execute("DUMP", "log:{acme}:alarms").str();
  const std::string meta = redis.execute("DUMP", "log:{acme}:alarms#meta").str();
  log.append(acme, "4 lost");
  const std::string lost = log.append(acme, "5 lost");
  auto feed = log.follow(sub, acme, lost);
  server.kill();
  server.start();
  REQUIRE(eventually([&] {
    try {
      return redis.execute("RESTORE", "log:{acme}:alarms", 0, stream).str() == "OK";
    } catch (const tn::error&) {
      return false;
    }
  }));
  redis.execute("RESTORE", "log:{acme}:alarms#meta", 0, meta);
  for (int i = 4; i <= 6; ++i) log.append(acme, std::to_string(i));
  CHECK(next(feed).what == "reset");
  for (int i = 1; i <= 6; ++i) CHECK(next(feed).what == std::to_string(i));
  auto late = log.follow(sub, acme, lost);  // offset 5 is there, with another tag
  CHECK(next(late).what == "reset");
}

TEST_CASE("coroutines append and follow as threads do, and a follower is stopped from elsewhere") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const std::string first = tn::sync_wait(log.async_append(acme, "1"));
  const auto listen = [](const text_log& of, tn::subscriber& by, std::string from) -> tn::task<std::string> {
    std::optional<std::string> last{from};
    auto following = of.async_follow(by, acme, last);
    text_follower feed = co_await std::move(following);
    std::string seen;
    while (seen.size() < 3) {
      auto waiting = feed.async_next();
      auto event = co_await std::move(waiting);
      if (!event) break;
      seen += std::get<tn::logged<std::string>>(*event).value;
    }
    co_return seen;
  };
  auto result = support::on_thread([&] { return tn::sync_wait(listen(log, sub, first)); });
  for (const char* each : {"2", "3", "4"}) tn::sync_wait(log.async_append(acme, each));
  CHECK(result.get() == "234");
  auto feed = log.follow(sub, acme);
  CHECK_FALSE(tn::sync_wait(feed.async_next_for(1ms)));
  tn::sync_wait(log.async_append(acme, "5"));
  CHECK(std::get<tn::logged<std::string>>(*tn::sync_wait(feed.async_next_for(patience))).value == "5");
  auto waits = support::on_thread([&] { return feed.next().has_value(); });
  feed.stop();
  CHECK_FALSE(waits.get());
  auto stopped = log.follow(sub, acme);
  std::stop_source stop;
  auto until = support::on_thread([&] { return stopped.next(stop.get_token()).has_value(); });
  stop.request_stop();
  CHECK_FALSE(until.get());
}

TEST_CASE("a follower waits while Redis is away, and goes on without a loss when it is back with its data") {
  support::need_redis();
  tn::testing::redis_server server{{.arguments = {"--appendonly", "yes", "--appendfsync", "always"}}};
  const tn::client redis{server.url()};
  const text_log log{redis, alarms};
  tn::subscriber sub{redis};
  log.append(acme, "1");
  auto feed = log.follow(sub, acme);
  log.append(acme, "2");
  CHECK(next(feed).what == "2");
  server.kill();
  CHECK(next(feed, 100ms).what == "nothing");
  server.start();
  REQUIRE(eventually([&] {
    try {
      log.append(acme, "3");
      return true;
    } catch (const tn::error&) {
      return false;
    }
  }));
  CHECK(next(feed).what == "3");
}
