// Consumers of a log against a real server.

#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/json_codec.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::eventually;
using support::on_thread;
using support::redis_rig;

inline constexpr tn::channel_schema<"alarms:{tenant}"> alarms;

const tn::tenant_id acme{"acme"};
const tn::tenant_id globex{"globex"};
using text_log = tn::event_log<std::string>;
using text_consumer = tn::consumer<std::string>;
using text_work = tn::work<std::string>;
constexpr std::string_view stream = "log:{acme}:alarms";

/// What handlers were given.
class given {
 public:
  void note(const text_work& w) {
    const std::lock_guard held{mutex_};
    ++times_[w.value];
    attempts_[w.value] = std::max(attempts_[w.value], w.attempt());
    order_.push_back(w.value);
  }
  [[nodiscard]] std::size_t different() const {
    const std::lock_guard held{mutex_};
    return times_.size();
  }
  [[nodiscard]] std::size_t total() const {
    const std::lock_guard held{mutex_};
    return order_.size();
  }
  [[nodiscard]] int times(const std::string& what) const {
    const std::lock_guard held{mutex_};
    const auto found = times_.find(what);
    return found == times_.end() ? 0 : found->second;
  }
  [[nodiscard]] std::uint32_t attempts(const std::string& what) const {
    const std::lock_guard held{mutex_};
    const auto found = attempts_.find(what);
    return found == attempts_.end() ? 0 : found->second;
  }
  [[nodiscard]] std::vector<std::string> order() const {
    const std::lock_guard held{mutex_};
    return order_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int> times_;
  std::map<std::string, std::uint32_t> attempts_;
  std::vector<std::string> order_;
};

/// A consumer that runs on a thread of its own until the end of its scope.
class running {
 public:
  explicit running(text_consumer consumer)
      : consumer_{std::make_unique<text_consumer>(std::move(consumer))},
        ended_{on_thread([this] { consumer_->run(); })} {}
  ~running() {
    consumer_->stop();
    if (ended_.valid()) ended_.wait();
  }
  void stop() {
    consumer_->stop();
    ended_.get();
  }
  text_consumer& operator*() { return *consumer_; }
  text_consumer* operator->() { return consumer_.get(); }

 private:
  std::unique_ptr<text_consumer> consumer_;
  std::future<void> ended_;
};

std::int64_t pending(const redis_rig& redis, std::string_view group) {
  return redis.client.execute("XPENDING", stream, group)[0].integer();
}
std::size_t consumers(const redis_rig& redis, std::string_view group) {
  return redis.client.execute("XINFO", "CONSUMERS", stream, group).elements().size();
}

/// Consumers that begin from here on have asked Redis once when this is true.
struct first_request {
  explicit first_request(const redis_rig& on) : redis{on} { redis.client.execute("CONFIG", "RESETSTAT"); }
  bool operator()() const { return redis.calls("hmget") > 0; }
  const redis_rig& redis;
};

}  // namespace

TEST_CASE("each event is handed to one consumer of each group, and is settled") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  given mailed;
  given stored;
  for (int i = 0; i < 50; ++i) log.append(acme, "before " + std::to_string(i));
  {
    running a{log.consume(sub, acme, "mailer", [&](const text_work& w) { mailed.note(w); })};
    running b{log.consume(sub, acme, "mailer", [&](const text_work& w) { mailed.note(w); })};
    running c{log.consume(sub, acme, "archive", [&](const text_work& w) { stored.note(w); })};
    for (int i = 0; i < 200; ++i) log.append(acme, "after " + std::to_string(i));
    log.append(globex, "foreign");
    CHECK(eventually([&] { return mailed.different() == 250 && stored.different() == 250; }));
    CHECK(eventually([&] { return pending(redis, "mailer") == 0 && pending(redis, "archive") == 0; }));
    CHECK(a->counters().handled + b->counters().handled == 250);
    CHECK(c->counters().handled == 250);
  }
  CHECK(mailed.total() == 250);
  CHECK(stored.total() == 250);
  CHECK(mailed.times("foreign") == 0);
  CHECK(consumers(redis, "mailer") == 0);  // who left with nothing is forgotten
}

TEST_CASE("a group that begins with the latest gets what is appended from then on, also where there is no log yet") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  const tn::consume_options latest{.start = tn::group_start::latest};
  SECTION("a log that is there") {
    log.append(acme, "old");
    given got;
    const first_request asked{redis};
    running worker{log.consume(
        sub, acme, "g", [&](const text_work& w) { got.note(w); }, latest)};
    REQUIRE(eventually(asked));
    log.append(acme, "new");
    CHECK(eventually([&] { return got.times("new") == 1; }));
    CHECK(got.times("old") == 0);
  }
  SECTION("none") {
    given got;
    const first_request asked{redis};
    running worker{log.consume(
        sub, acme, "g", [&](const text_work& w) { got.note(w); }, latest)};
    REQUIRE(eventually(asked));
    log.append(acme, "first");
    CHECK(eventually([&] { return got.times("first") == 1; }));
  }
  SECTION("a log that was deleted, and begins anew") {
    log.append(acme, "old");
    given got;
    const first_request asked{redis};
    running worker{log.consume(
        sub, acme, "g", [&](const text_work& w) { got.note(w); }, latest)};
    REQUIRE(eventually(asked));
    log.append(acme, "one");
    REQUIRE(eventually([&] { return got.times("one") == 1 && pending(redis, "g") == 0; }));
    redis.client.execute("DEL", stream, "log:{acme}:alarms#meta");
    log.append(acme, "of another log");
    CHECK(eventually([&] { return got.times("of another log") == 1; }));
  }
}

TEST_CASE("what a handler throws at is handed out again, and becomes a dead letter after so many attempts") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  given got;
  running worker{log.consume(sub, acme, "mailer",
                             [&](const text_work& w) {
                               got.note(w);
                               if (w.value == "poison") throw std::runtime_error{"cannot be eaten"};
                               if (w.value == "flaky" && w.attempt() < 3) throw std::runtime_error{"not yet"};
                             },
                             {.max_attempts = 3, .retry_after = 20ms, .claim_after = 30s})};
  const std::string id = log.append(acme, "poison");
  log.append(acme, "flaky");
  log.append(acme, "good");
  CHECK(eventually([&] { return got.times("good") == 1 && got.times("flaky") == 3 && got.times("poison") == 3; }));
  CHECK(got.attempts("poison") == 3);
  CHECK(eventually([&] { return log.dead_letters(acme, "mailer").size() == 1; }));
  CHECK(eventually([&] { return pending(redis, "mailer") == 0; }));
  const auto letters = log.dead_letters(acme, "mailer");
  REQUIRE(letters.size() == 1);
  CHECK(letters[0].id == id);
  CHECK(letters[0].payload == tn::default_codec<std::string>{}.encode("poison"));
  CHECK(letters[0].attempts == 3);
  CHECK(letters[0].why == "cannot be eaten");
  CHECK(worker->counters().failed == 5);
  CHECK(worker->counters().again == 4);
  CHECK(worker->counters().dead == 1);
  CHECK(log.remove_dead_letter(acme, "mailer", letters[0]));
  CHECK_FALSE(log.remove_dead_letter(acme, "mailer", letters[0]));
  CHECK(log.dead_letters(acme, "mailer").empty());
  CHECK(log.dead_letters(globex, "mailer").empty());
}

TEST_CASE("a handler that takes longer than claim_after keeps its event, and others do not get it") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  given got;
  support::gate slow;
  const support::opens_at_end opens{slow};
  const tn::consume_options how{.batch = 2, .claim_after = 600ms};
  const auto handle = [&](const text_work& w) {
    got.note(w);
    if (w.value == "slow") slow.wait();
  };
  log.append(acme, "slow");
  log.append(acme, "behind it");
  running first{log.consume(sub, acme, "g", handle, how)};
  REQUIRE(eventually([&] { return got.times("slow") == 1; }));
  running second{log.consume(sub, acme, "g", handle, how)};
  // Until the second one has looked for work of the dead several times.
  const std::uint64_t looked = redis.calls("xautoclaim");
  REQUIRE(eventually([&] { return redis.calls("xautoclaim") >= looked + 6; }));
  CHECK(got.times("slow") == 1);
  CHECK(got.times("behind it") == 0);  // it was given to the first one
  slow.open();
  CHECK(eventually([&] { return got.times("behind it") == 1; }));
  CHECK(eventually([&] { return pending(redis, "g") == 0; }));
  CHECK(got.total() == 2);
}

TEST_CASE("a consumer that stops gives back what it did not hand out, and settles what it did") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  for (int i = 0; i < 10; ++i) log.append(acme, std::to_string(i));
  given got;
  std::optional<text_consumer> first;
  first.emplace(log.consume(sub, acme, "g", [&](const text_work& w) {
    got.note(w);
    if (got.total() == 3) first->stop();
  }));
  first->run();
  CHECK(got.order() == std::vector<std::string>{"0", "1", "2"});
  CHECK(pending(redis, "g") == 7);
  running second{log.consume(sub, acme, "g", [&](const text_work& w) { got.note(w); })};
  CHECK(eventually([&] { return got.different() == 10; }));
  CHECK(got.attempts("9") == 1);  // it was not an attempt
  CHECK(got.total() == 10);
}

TEST_CASE("events that the log did not keep are counted, not silently missing") {
  const redis_rig redis;
  const text_log log{redis.client, alarms, {.keep = 5}};
  tn::subscriber sub{redis.client};
  given got;
  {
    running worker{log.consume(sub, acme, "g", [&](const text_work& w) { got.note(w); })};
    log.append(acme, "0");
    REQUIRE(eventually([&] { return got.times("0") == 1 && pending(redis, "g") == 0; }));
  }
  for (int i = 1; i <= 20; ++i) log.append(acme, std::to_string(i));
  running worker{log.consume(sub, acme, "g", [&](const text_work& w) { got.note(w); })};
  CHECK(eventually([&] { return got.times("20") == 1; }));
  CHECK(got.different() == 6);
  CHECK(worker->counters().lost == 15);
}

TEST_CASE("a group is where it was after its log expired") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  given got;
  const tn::consume_options latest{.start = tn::group_start::latest};
  {
    const first_request asked{redis};
    running worker{log.consume(
        sub, acme, "g", [&](const text_work& w) { got.note(w); }, latest)};
    REQUIRE(eventually(asked));
    log.append(acme, "1");
    REQUIRE(eventually([&] { return got.times("1") == 1 && pending(redis, "g") == 0; }));
  }
  log.append(acme, "2");
  redis.client.execute("DEL", stream);  // as when its life is over: the meta lives longer
  log.append(acme, "3");
  running worker{log.consume(
      sub, acme, "g", [&](const text_work& w) { got.note(w); }, latest)};
  CHECK(eventually([&] { return got.times("3") == 1; }));
  CHECK(worker->counters().lost == 1);
}

TEST_CASE("who is done with an event settles no other one that has its offset now") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  support::gate first_may;
  support::gate second_may;
  const support::opens_at_end first_opens{first_may};
  const support::opens_at_end second_opens{second_may};
  given got;
  const auto handle = [&](const text_work& w) {
    got.note(w);
    if (w.value == "old") first_may.wait();
    if (w.value == "new") second_may.wait();
  };
  log.append(acme, "old");
  running first{log.consume(sub, acme, "g", handle)};
  REQUIRE(eventually([&] { return got.times("old") == 1; }));
  SECTION("of a log that was deleted, and began anew") {
    redis.client.execute("DEL", stream, "log:{acme}:alarms#meta");
  }
  SECTION("of a server that lost the end of its log") {
    redis.client.execute("DEL", stream);
    redis.client.execute("HSET", "log:{acme}:alarms#meta", "s", 0);
    redis.client.execute("HDEL", "log:{acme}:alarms#meta", "g:g");
  }
  log.append(acme, "new");
  CHECK(redis.client.execute("XRANGE", stream, "-", "+")[0][0].str() == "1-0");
  running second{log.consume(sub, acme, "g", handle)};
  REQUIRE(eventually([&] { return got.times("new") == 1; }));
  first_may.open();
  REQUIRE(eventually([&] { return first->counters().handled == 1; }));
  first.stop();  // with its last word said
  CHECK(pending(redis, "g") == 1);
  second_may.open();
  CHECK(eventually([&] { return pending(redis, "g") == 0; }));
  CHECK(got.times("new") == 1);
}

TEST_CASE("consumers are coroutines, and so are handlers") {
  const redis_rig redis;
  const text_log log{redis.client, alarms};
  tn::subscriber sub{redis.client};
  for (int i = 0; i < 20; ++i) log.append(acme, std::to_string(i));
  given got;
  std::optional<text_consumer> plain;
  std::optional<text_consumer> awaited;
  plain.emplace(log.consume(sub, acme, "plain", [&](const text_work& w) {
    got.note(w);
    if (w.value == "19") plain->stop();
  }));
  awaited.emplace(log.consume(sub, acme, "awaited",
                              [&](const text_work& w) -> tn::task<void> {
                                auto storing = redis.client.async_execute("RPUSH", "stored", w.value);
                                (void)co_await std::move(storing);
                                if (w.value == "7" && w.attempt() == 1) throw std::runtime_error{"once"};
                                if (redis.client.execute("LLEN", "stored").integer() == 21) awaited->stop();
                              },
                              {.retry_after = 10ms}));
  std::vector<tn::task<void>> both;
  both.push_back(plain->async_run());
  both.push_back(awaited->async_run());
  tn::sync_wait(tn::when_all(std::move(both)));
  CHECK(got.total() == 20);
  CHECK(awaited->counters().handled == 20);
  CHECK(awaited->counters().failed == 1);
  CHECK(pending(redis, "plain") == 0);
  CHECK(pending(redis, "awaited") == 0);
}
