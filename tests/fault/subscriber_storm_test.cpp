// Subscribers and subscriptions that many threads use, move and end while messages stream and connections are lost.

#include "support/async_calls.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/feeds.hpp"
#include "support/random_bytes.hpp"
#include "support/sanitized.hpp"

#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/publisher.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <malloc.h>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::alarms;
using support::eventually;
using support::listening;
using support::news;
using support::next_of;
using support::redis_rig;
using support::roomy;
using support::text_feed;

const tn::tenant_id acme{"acme"};

void check_that_nothing_is_left(const redis_rig& redis, const tn::subscriber& sub) {
  CHECK(support::nobody_listens(redis.client));
  CHECK(listening(redis.client, alarms(acme)) == 0);
  CHECK(sub.counters().subscriptions == 0);
  CHECK(sub.counters().channels == 0);
}

/// Every number from 1 that came, and how often.
struct taken {
  explicit taken(std::size_t size) : times(size + 1) {}
  void count(const std::optional<tn::feed_event<std::string>>& event) {
    if (const auto* came = std::get_if<tn::message<std::string>>(&*event)) {
      ++times[std::stoull(came->value)];
      ++messages;
    } else {
      ++others;
    }
  }
  [[nodiscard]] bool each_once() const {
    return std::all_of(times.begin() + 1, times.end(), [](const auto& n) { return n == 1; });
  }

  std::vector<std::atomic<int>> times;
  std::atomic<std::size_t> messages = 0;
  std::atomic<std::size_t> others = 0;
};

void publish_numbers(const redis_rig& redis, std::size_t count) {
  const tn::publisher pub{redis.client, {.timeout = 20s}};
  std::vector<tn::outgoing> all;
  for (std::size_t i = 1; i <= count; ++i) {
    all.push_back({.to = alarms(acme), .payload = std::to_string(i)});
    if (all.size() < 100 && i < count) continue;
    pub.publish_all(all);
    all.clear();
  }
}

}  // namespace

TEST_CASE("threads that subscribe to and leave the same and other channels and patterns leave nothing") {
  const support::must_end watch{110s};
  const redis_rig redis;
  for (const bool kills : {false, true}) {
    CAPTURE(kills);
    tn::subscriber sub{redis.client, {.connections = kills ? 2U : 1U}};
    std::atomic<int> failed = 0;
    std::atomic<bool> over = false;
    auto killer = support::on_thread([&] {
      while (kills && !over) {
        support::kill_listeners(redis.client);
        std::this_thread::sleep_for(10ms);
      }
    });
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 16; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = 0; i < 30; ++i) {
          try {
            const auto topic = std::to_string(i % 3);
            auto shared = sub.subscribe<std::string>(alarms(acme), roomy);
            auto pattern = sub.subscribe<std::string>(news.all(acme), roomy);
            if (i % 2 == 0) shared.unsubscribe();
            auto few = sub.subscribe<std::string>(news(acme, topic), roomy);
            auto own = sub.subscribe<std::string>(news(tn::tenant_id{"t" + std::to_string(t)}, topic), roomy);
            auto own_pattern = sub.subscribe<std::string>(news.all(tn::tenant_id{"t" + std::to_string(t)}), roomy);
            few = std::move(own);
          } catch (const tn::error&) {
            ++failed;
          }
        }
      });
    }
    for (std::thread& each : threads) each.join();
    over = true;
    killer.get();
    CHECK(failed == 0);
    check_that_nothing_is_left(redis, sub);
    auto last = sub.subscribe<std::string>(alarms(acme), roomy);
    const tn::publisher pub{redis.client};
    CHECK(pub.publish(alarms(acme), "still works") == 1);
    CHECK(next_of(last) == "still works");
  }
}

TEST_CASE(
    "what is subscribed after a random sequence of subscribing, leaving and losing the connection is what is wanted") {
  const support::must_end watch{110s};
  const redis_rig redis;
  support::random_bytes random;
  tn::subscriber sub{redis.client};
  std::vector<std::pair<std::size_t, text_feed>> feeds;  // channels 0-9, patterns 10-19
  const auto tenant = [](std::size_t which) { return tn::tenant_id{"t" + std::to_string(which)}; };
  for (std::size_t step = 0; step < 600; ++step) {
    const std::size_t what = random.below(20);
    if (what < 9) {
      const std::size_t which = random.below(20);
      feeds.emplace_back(which, which < 10 ? sub.subscribe<std::string>(alarms(tenant(which)), roomy)
                                           : sub.subscribe<std::string>(news.all(tenant(which)), roomy));
    } else if (what < 19 && !feeds.empty()) {
      feeds.erase(feeds.begin() + static_cast<std::ptrdiff_t>(random.below(feeds.size())));
    } else if (random.below(4) == 0) {
      support::kill_listeners(redis.client);
    }
    if (step % 100 != 99) continue;
    std::size_t channels = 0;
    std::size_t patterns = 0;
    for (std::size_t which = 0; which < 20; ++which) {
      const auto same = [&](const auto& each) { return each.first == which; };
      if (std::ranges::any_of(feeds, same)) ++(which < 10 ? channels : patterns);
    }
    CHECK(eventually([&] {
      return support::channels_listening(redis.client) == channels &&
             support::patterns_listening(redis.client) == static_cast<std::int64_t>(patterns);
    }));
    CHECK(sub.counters().channels == channels + patterns);
    CHECK(sub.counters().subscriptions == feeds.size());
  }
  feeds.clear();
  check_that_nothing_is_left(redis, sub);
}

TEST_CASE("10000 listeners of one tenant are one for Redis, get each message once, and leave nothing") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  std::vector<text_feed> feeds;
  for (int i = 0; i < 10'000; ++i) feeds.push_back(sub.subscribe<std::string>(alarms(acme)));
  CHECK(listening(redis.client, alarms(acme)) == 1);
  const tn::publisher pub{redis.client};
  CHECK(pub.publish(alarms(acme), "all") == 1);
  CHECK(support::kill_listeners(redis.client) == 1);
  REQUIRE(eventually([&] { return pub.publish(alarms(acme), "again") == 1; }));
  std::size_t right = 0;
  for (text_feed& each : feeds) {
    if (next_of(each) == "all" && next_of(each) == "gap" && next_of(each) == "again" && !each.try_next()) ++right;
  }
  CHECK(right == feeds.size());
  feeds.erase(feeds.begin() + 5000, feeds.end());
  CHECK(listening(redis.client, alarms(acme)) == 1);
  feeds.clear();
  check_that_nothing_is_left(redis, sub);
}

TEST_CASE(
    "tokens that are triggered while messages stream end exactly the waits that they belong to, and lose nothing") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  auto feed = sub.subscribe<std::string>(alarms(acme), roomy);
  constexpr std::size_t count = 20'000;
  taken all{count};
  std::atomic<bool> over = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      while (!over) {
        std::stop_source stop;
        std::thread other{[&] { stop.request_stop(); }};
        while (const auto event = feed.next(stop.get_token())) all.count(event);
        other.join();
      }
    });
  }
  publish_numbers(redis, count);
  CHECK(eventually([&] { return all.messages == count; }));
  over = true;
  for (std::thread& each : threads) each.join();
  while (const auto event = feed.try_next()) all.count(event);
  CHECK(all.each_once());
  CHECK(all.others == 0);
  CHECK(feed.counters().delivered == count);
}

TEST_CASE("several threads that read one subscription get each message once") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  auto feed = sub.subscribe<std::string>(alarms(acme), roomy);
  constexpr std::size_t count = 50'000;
  taken all{count};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (;;) {
        const auto event = t % 2 == 0 ? feed.next() : feed.next_for(1h);
        if (!event) return;
        all.count(event);
      }
    });
  }
  publish_numbers(redis, count);
  CHECK(eventually([&] { return all.messages == count; }));
  feed.unsubscribe();
  for (std::thread& each : threads) each.join();
  CHECK(all.each_once());
  CHECK(all.others == 0);
}

TEST_CASE("many coroutines and threads that wait on one subscription get each message once, and end with it") {
  const support::must_end watch{110s};
  const redis_rig redis;
  constexpr std::size_t count = 20'000;
  for (const bool stops : {false, true}) {
    tn::subscriber sub{redis.client};
    auto feed = sub.subscribe<std::string>(alarms(acme), roomy);
    taken all{count};
    std::stop_source stop;
    const auto reads = [](text_feed& from, taken& into, std::stop_token until) -> tn::task<int> {
      for (;;) {
        auto waiting = from.async_next(until);
        const auto event = co_await std::move(waiting);
        if (!event) co_return 1;
        into.count(event);
      }
    };
    std::deque<support::under_way<int>> calls;
    for (int i = 0; i < 200; ++i) calls.emplace_back(reads(feed, all, stop.get_token()));
    auto blocking = support::on_thread([&] {
      while (const auto event = feed.next(stop.get_token())) all.count(event);
    });
    publish_numbers(redis, count);
    CHECK(eventually([&] { return all.messages == count; }));
    if (stops) {
      stop.request_stop();
    } else {
      feed.unsubscribe();
    }
    for (auto& each : calls) CHECK(each.take() == 1);
    blocking.get();
    CHECK(all.each_once());
    CHECK(all.others == 0);
  }
}

TEST_CASE("coroutines that subscribe to 200 channels at the same time, while connections are lost, all get there") {
  const support::must_end watch{110s};
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  const auto listen = [](tn::subscriber& to, std::size_t i) -> tn::task<int> {
    tn::channel c = news(acme, std::to_string(i % 200));
    auto subscribing = to.async_subscribe<std::string>(c, roomy);
    text_feed feed = co_await std::move(subscribing);
    co_return feed.counters().gaps == 0 ? 1 : 0;
  };
  std::deque<support::under_way<int>> calls;
  for (std::size_t i = 0; i < 1000; ++i) {
    calls.emplace_back(listen(sub, i));
    if (i % 200 == 100) support::kill_listeners(redis.client);
  }
  int there = 0;
  for (auto& each : calls) there += each.take() >= 0 ? 1 : 0;
  CHECK(there == 1000);
  check_that_nothing_is_left(redis, sub);
}

TEST_CASE("waits that are given up on a silent channel leave no memory behind") {
  const redis_rig redis;
  tn::subscriber sub{redis.client};
  auto feed = sub.subscribe<std::string>(alarms(acme), roomy);
  const auto give_up = [&](int times) {
    for (int i = 0; i < times; ++i) {
      std::stop_source stop;
      auto call = support::started(feed.async_next(stop.get_token()));
      stop.request_stop();
      CHECK_FALSE(call.take());
      CHECK_FALSE(feed.try_next());
    }
  };
  give_up(100);
#ifdef __GLIBC__
  const auto before = ::mallinfo2().uordblks;
  give_up(5000);
  const auto after = ::mallinfo2().uordblks;
  if (!support::sanitized) CHECK(after < before + 100'000);
#endif
}
