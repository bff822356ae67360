// How a log is read, against a real server: by followers that ask the same in one read, and in parts that fit.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"
#include "support/sanitized.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/command.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <future>
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
const tn::tenant_id acme{"acme"};
constexpr auto patience = 20s;
using text_log = tn::event_log<std::string>;
using text_follower = tn::follower<std::string>;

std::int64_t number_in_info(const tn::caller& redis, const std::string& name) {
  const std::string all = redis.execute("INFO", "clients").str();
  return std::stoll(all.substr(all.find(name + ':') + name.size() + 1));
}

/// From `hold` on no log is read until `release`, though listeners connect and subscribe.
struct scripts_on_hold {
  scripts_on_hold() = default;
  scripts_on_hold(const scripts_on_hold&) = delete;
  scripts_on_hold& operator=(const scripts_on_hold&) = delete;
  ~scripts_on_hold() { release(); }
  void hold() const { redis.execute("CLIENT", "PAUSE", 100'000, "WRITE"); }
  void release() const { redis.execute("CLIENT", "UNPAUSE"); }
  /// So many calls wait for that.
  [[nodiscard]] bool hold_up(std::int64_t calls) const {
    return eventually([&] { return number_in_info(redis, "blocked_clients") >= calls; });
  }
  tn::client redis{redis_rig::server().url()};
};

/// What followers got: the last number of each, which have to ascend by one.
struct tally {
  std::atomic<std::size_t> at_the_end = 0;
  std::atomic<std::size_t> wrong = 0;
};

/// One event in a follower's sequence. False at the last one.
bool take(tally& into, int& last, int end, const std::optional<tn::log_event<std::string>>& event) {
  const auto* const came = event ? std::get_if<tn::logged<std::string>>(&*event) : nullptr;
  if (came == nullptr || came->value != std::to_string(last + 1)) {
    ++into.wrong;
    return false;
  }
  return ++last < end;
}

tn::task<void> follow_to(tally& into, text_follower feed, int last, int end) {
  for (bool more = true; more;) {
    auto waiting = feed.async_next();
    const auto event = co_await std::move(waiting);
    more = take(into, last, end, event);
  }
  ++into.at_the_end;
}

}  // namespace

TEST_CASE(
    "200 followers that resume from the same event after an outage share few reads, and each gets each event once") {
  const redis_rig redis;
  const text_log log{redis.client, alarms, {.announce = tn::announce::nobody, .timeout = 100s}};
  tn::subscriber sub{redis.client};
  const scripts_on_hold scripts;
  constexpr std::size_t each_way = 100;
  constexpr int end = 12;
  tally got;
  std::atomic<std::size_t> gone = 0;
  std::vector<std::thread> threads;
  std::vector<text_follower> feeds;
  const std::string first = log.append(acme, "1");
  for (std::size_t i = 0; i < 2 * each_way; ++i) feeds.push_back(log.follow(sub, acme, first));
  for (std::size_t i = 0; i < each_way; ++i) {
    threads.emplace_back([&got, feed = std::move(feeds[i])]() mutable {
      int last = 1;
      while (take(got, last, end, feed.next_for(patience))) continue;
      ++got.at_the_end;
    });
    tn::start(follow_to(got, std::move(feeds[each_way + i]), 1, end), [&gone](const std::exception_ptr&) { ++gone; });
  }
  // Everybody listens and nobody is told: then the rest is appended while nobody can hear of it.
  const std::string epoch = first.substr(0, 16);
  std::vector<tn::command> outage;
  outage.emplace_back("CLIENT", "KILL", "TYPE", "pubsub");
  for (int i = 2; i <= end; ++i) {
    outage.emplace_back("XADD", "log:{acme}:alarms", std::to_string(i) + "-0", "t", "tag0000" + std::to_string(i % 10),
                        "d", std::to_string(i));
  }
  outage.emplace_back("HSET", "log:{acme}:alarms#meta", "s", end);
  outage.emplace_back("CLIENT", "PAUSE", 100'000, "WRITE");
  redis.client.execute("CONFIG", "RESETSTAT");
  redis.client.execute_all(outage);
  CHECK(scripts.hold_up(1));
  scripts.release();
  CHECK(eventually([&] { return got.at_the_end == 2 * each_way; }));
  CHECK(got.wrong == 0);
  const std::uint64_t reads = redis.calls("evalsha");
  CHECK(reads >= 1);
  CHECK(reads <= each_way / (support::sanitized ? 2 : 4));
  for (std::thread& each : threads) each.join();
  CHECK(eventually([&] { return gone == each_way; }));
}

TEST_CASE("a follower that is stopped while it reads for others leaves them to read, and waits for nothing") {
  const redis_rig redis;
  const text_log log{redis.client, alarms, {.timeout = 100s}};
  tn::subscriber sub{redis.client};
  const scripts_on_hold scripts;
  const std::string first = log.append(acme, "1");
  std::vector<text_follower> feeds;
  for (int i = 0; i < 4; ++i) feeds.push_back(log.follow(sub, acme, first));
  scripts.hold();
  scripts.redis.execute("CLIENT", "KILL", "TYPE", "pubsub");
  std::vector<std::stop_source> stops(feeds.size());
  std::vector<std::future<bool>> waits;
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    waits.push_back(support::on_thread([&, i] { return feeds[i].next(stops[i].get_token()).has_value(); }));
  }
  REQUIRE(scripts.hold_up(1));
  for (std::size_t i = 0; i + 1 < feeds.size(); ++i) {
    if (i == 1) {
      feeds[i].stop();
    } else {
      stops[i].request_stop();
    }
    CHECK(waits[i].wait_for(patience) == std::future_status::ready);
    CHECK_FALSE(waits[i].get());
  }
  scripts.release();
  log.append(acme, "2");
  CHECK(waits.back().wait_for(patience) == std::future_status::ready);
  CHECK(waits.back().get());
}

TEST_CASE("a follower whose time is over waits for no other one's read") {
  const redis_rig redis;
  const text_log log{redis.client, alarms, {.timeout = 100s}};
  tn::subscriber sub{redis.client};
  const scripts_on_hold scripts;
  const std::string first = log.append(acme, "1");
  auto reads = log.follow(sub, acme, first);
  auto polls = log.follow(sub, acme, first);
  scripts.hold();
  scripts.redis.execute("CLIENT", "KILL", "TYPE", "pubsub");
  auto waits = support::on_thread([&] { return reads.next().has_value(); });
  REQUIRE(scripts.hold_up(1));
  CHECK_FALSE(polls.next_for(5ms));  // hears of the outage, now or before
  CHECK_FALSE(polls.next_for(5ms));
  scripts.release();
  log.append(acme, "2");
  CHECK(waits.get());
  CHECK(std::get<tn::logged<std::string>>(*polls.next_for(patience)).value == "2");
}

TEST_CASE("a refusal closes each follower that shared the read, with the server's words") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const std::string first = log.append(acme, "1");
  std::vector<text_follower> feeds;
  for (int i = 0; i < 20; ++i) feeds.push_back(log.follow(sub, acme, first));
  redis.client.execute("DEL", "log:{acme}:alarms#meta");
  redis.client.execute("SET", "log:{acme}:alarms#meta", "no hash");
  redis.client.execute("CLIENT", "KILL", "TYPE", "pubsub");
  std::vector<std::future<std::string>> ends;
  for (text_follower& each : feeds) {
    ends.push_back(support::on_thread([&each] {
      const auto event = each.next_for(patience);
      return event ? std::string{std::get<tn::closed>(*event).why->what()} : std::string{"nothing"};
    }));
  }
  for (auto& each : ends) CHECK(each.get().find("WRONGTYPE") != std::string::npos);
}

TEST_CASE("a client that is closed ends followers that wait for each other's reads") {
  const redis_rig redis;
  tn::client client{redis_rig::server().url()};
  const text_log log{client, alarms, {.timeout = 100s}};
  tn::subscriber sub{client};
  const scripts_on_hold scripts;
  const std::string first = log.append(acme, "1");
  std::vector<text_follower> feeds;
  for (int i = 0; i < 6; ++i) feeds.push_back(log.follow(sub, acme, first));
  scripts.hold();
  scripts.redis.execute("CLIENT", "KILL", "TYPE", "pubsub");
  std::vector<std::future<bool>> ends;
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    ends.push_back(support::on_thread([&, i] {
      if (i % 2 == 0) return std::holds_alternative<tn::closed>(*feeds[i].next());
      auto waiting = feeds[i].async_next();
      const auto event = tn::sync_wait(std::move(waiting));
      return std::holds_alternative<tn::closed>(*event);
    }));
  }
  REQUIRE(scripts.hold_up(1));
  client.close(0ms);
  for (auto& each : ends) {
    REQUIRE(each.wait_for(patience) == std::future_status::ready);
    CHECK(each.get());
  }
  scripts.release();
}

TEST_CASE("events are read in parts that fit into a reply, however large they are") {
  const redis_rig redis;
  constexpr std::size_t large = 4U << 20U;  // a client takes replies of up to 64 MiB
  const text_log log{redis.client, alarms, {.max_payload = large, .timeout = 20s}};
  tn::subscriber sub{redis.client};
  const std::string first = log.append(acme, "first");
  constexpr int events = 20;
  for (int i = 0; i < events; ++i) log.append(acme, std::string(large, static_cast<char>('a' + i)));
  auto feed = log.follow(sub, acme, first);
  for (int i = 0; i < events; ++i) {
    const auto event = feed.next_for(20s);
    REQUIRE(event);
    CHECK(std::get<tn::logged<std::string>>(*event).value.front() == static_cast<char>('a' + i));
  }
  std::string handled;
  std::optional<tn::consumer<std::string>> worker;
  worker.emplace(log.consume(sub, acme, "g",
                             [&](const tn::work<std::string>& w) {
                               handled += w.value.front();
                               if (handled.size() == events + 1) worker->stop();
                             },
                             {.batch = 1000}));
  worker->run();
  CHECK(handled == "fabcdefghijklmnopqrst");
}
