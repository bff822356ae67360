// Many keys in one call, with a batch loader and without, in the call and in the background.

#include "support/background.hpp"
#include "support/cache_rig.hpp"
#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/sites.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/catalog.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <future>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::eventually;
using support::gate;
using support::gateway_health;
using support::kpi;
using support::on_thread;
using support::redis_rig;
using support::site;

std::vector<tn::key> keys_of(std::initializer_list<int> numbers) {
  std::vector<tn::key> keys;
  for (const int n : numbers) keys.push_back(gateway_health(acme, n));
  return keys;
}

struct manner {
  bool coroutine;
  bool executor;
  bool batch;
  const char* name;
};
constexpr std::array all_manners{
    manner{false, false, false, "threads"},
    manner{false, false, true, "threads, batch"},
    manner{false, true, false, "threads, executor"},
    manner{false, true, true, "threads, executor, batch"},
    manner{true, false, false, "coroutines"},
    manner{true, false, true, "coroutines, batch"},
    manner{true, true, false, "coroutines, executor"},
    manner{true, true, true, "coroutines, executor, batch"},
};
std::vector<manner> with_executor() {
  std::vector<manner> some;
  std::ranges::copy_if(all_manners, std::back_inserter(some), &manner::executor);
  return some;
}

/// A process whose loaders note what they are asked for. They end when the gate is open, which it is at first.
class many_site {
 public:
  explicit many_site(const manner& how, tn::cache_options options = {}) : how_{how}, redis{watched(heard)} {
    options = site::waiting(options);
    if (how.executor) options.executor = pool_.get_executor();
    const auto load = [this](const tn::key& k, tn::load_context& context) { return load_all({&k, 1}, context)[0]; };
    if (how.batch) {
      cache_ = std::make_unique<tn::cache<kpi>>(
          redis, options, load,
          [this](std::span<const tn::key> keys, tn::load_context& context) { return load_all(keys, context); });
    } else {
      cache_ = std::make_unique<tn::cache<kpi>>(redis, options, load);
    }
  }
  many_site(const many_site&) = delete;
  many_site& operator=(const many_site&) = delete;
  ~many_site() { release(); }

  std::vector<tn::cached<kpi>> fetch_many(const std::vector<tn::key>& keys) {
    return how_.coroutine ? tn::sync_wait(cache_->async_fetch_many(keys)) : cache_->fetch_many(keys);
  }
  tn::cache<kpi>* operator->() { return cache_.get(); }

  /// From here on values are of this generation.
  void begin(int generation) {
    const std::lock_guard held{mutex_};
    generation_ = generation;
  }
  void hold() {
    const std::lock_guard held{mutex_};
    gate_ = std::make_shared<gate>();
  }
  void release() {
    const std::lock_guard held{mutex_};
    if (gate_) gate_->open();
  }
  void fail() {
    const std::lock_guard held{mutex_};
    fails_ = true;
  }
  /// The keys of each call of a loader.
  [[nodiscard]] std::vector<std::vector<std::string>> calls() const {
    const std::lock_guard held{mutex_};
    return calls_;
  }
  [[nodiscard]] std::size_t loaded() const {
    std::size_t all = 0;
    for (const auto& each : calls()) all += each.size();
    return all;
  }
  [[nodiscard]] bool ran_on(std::thread::id which) const {
    const std::lock_guard held{mutex_};
    return std::ranges::find(threads_, which) != threads_.end();
  }
  [[nodiscard]] bool all_stopped() const {
    const std::lock_guard held{mutex_};
    return std::ranges::all_of(stops_, [](const std::stop_token& each) { return each.stop_requested(); });
  }

 private:
  static tn::client_options watched(support::listener& by) {
    tn::client_options options = support::patient_options();
    options.observer = by.ear();
    return options;
  }
  std::vector<kpi> load_all(std::span<const tn::key> keys, tn::load_context& load) {
    load.tag("t");
    std::unique_lock held{mutex_};
    auto& call = calls_.emplace_back();
    std::vector<kpi> values;
    for (const tn::key& k : keys) {
      call.push_back(k.str());
      values.push_back({generation_, k.str()});
    }
    threads_.push_back(std::this_thread::get_id());
    stops_.push_back(load.stop());
    const auto wait = gate_;
    held.unlock();
    if (wait) wait->wait();
    held.lock();
    if (fails_) throw std::runtime_error{"no such table"};
    return values;
  }

  const manner how_;
  mutable std::mutex mutex_;
  int generation_ = 1;
  bool fails_ = false;
  std::shared_ptr<gate> gate_;
  std::vector<std::vector<std::string>> calls_;
  std::vector<std::thread::id> threads_;
  std::vector<std::stop_token> stops_;
  tn::thread_pool pool_{2};

 public:
  support::listener heard;
  tn::client redis;

 private:
  std::unique_ptr<tn::cache<kpi>> cache_;
};

/// Each has the value of its key, of this generation.
void check(const std::vector<tn::cached<kpi>>& found, const std::vector<tn::key>& keys, int generation,
           tn::source from) {
  REQUIRE(found.size() == keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    CHECK(*found[i] == kpi{generation, keys[i].str()});
    CHECK(found[i].source() == from);
    CHECK(found[i].stored());
  }
}

}  // namespace

TEST_CASE("many keys come in their order, and what is missing is loaded once: by one call of a batch loader") {
  for (const manner& how : all_manners) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    many_site one{how};
    CHECK(one.fetch_many({}).empty());
    check(one.fetch_many(keys_of({2})), keys_of({2}), 1, tn::source::computed);
    one.begin(2);
    const auto keys = keys_of({3, 2, 1, 3, 4});
    const auto found = one.fetch_many(keys);
    REQUIRE(found.size() == keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) CHECK(*found[i] == kpi{i == 1 ? 1 : 2, keys[i].str()});
    CHECK(one.loaded() == 4);
    const auto calls = one.calls();
    CHECK(calls.size() == (how.batch ? 2 : 4));
    if (how.batch) CHECK(calls[1] == std::vector<std::string>{keys[0].str(), keys[2].str(), keys[4].str()});
    check(one.fetch_many(keys_of({4, 3, 1})), keys_of({4, 3, 1}), 2, tn::source::redis);
    CHECK(one.ran_on(std::this_thread::get_id()) == (!how.executor && !how.coroutine));
    const tn::cache_stats stats = one->stats();
    CHECK(stats.loads == 4);
    CHECK(stats.stores == 4);
    CHECK(stats.hits + stats.misses == 9);
  }
}

TEST_CASE("callers of many keys share one load of each, in two processes, with and without an executor") {
  for (const manner& how : all_manners) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    many_site one{how};
    many_site two{how};
    one.hold();
    auto first = on_thread([&] { return one.fetch_many(keys_of({1, 2})); });
    REQUIRE(eventually([&] { return one.calls().size() == 1; }));
    const auto keys = keys_of({5, 2, 4, 1, 3});
    auto here = on_thread([&] { return one.fetch_many(keys); });
    REQUIRE(eventually([&] { return one.calls().size() == 2; }));
    auto there = on_thread([&] { return two.fetch_many(keys); });
    REQUIRE(eventually([&] { return two->stats().waits >= 1; }));
    one.release();
    check(first.get(), keys_of({1, 2}), 1, tn::source::computed);
    check(here.get(), keys, 1, tn::source::computed);
    for (const auto& each : there.get()) CHECK(each->property_count == 1);
    if (how.batch) CHECK(one.loaded() + two.loaded() == 5);
    CHECK(one->stats().loads == one.loaded());
  }
}

TEST_CASE("after hard_timeout a caller of many keys gets load_timeout, and all that it leaves is stored") {
  for (const manner& how : with_executor()) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    many_site one{how, {.hard_timeout = 20ms}};
    one->put(gateway_health(acme, 2), {0, "there"});
    one.hold();
    const auto keys = keys_of({1, 2, 3});
    CHECK(support::failure_of([&] { (void)one.fetch_many(keys); }).code == tn::errc::load_timeout);
    CHECK(support::failure_of([&] { (void)one.fetch_many(keys); }).code == tn::errc::load_timeout);
    CHECK(one->stats().timeouts == 4);
    CHECK(one.heard.all(tn::events::load_timeout).size() == 4);
    CHECK(one.fetch_many(keys_of({2}))[0]->unit == "there");
    one.release();
    CHECK(eventually([&] { return one->get(keys[0]) && one->get(keys[2]); }));
    check(one.fetch_many(keys_of({1, 3})), keys_of({1, 3}), 1, tn::source::redis);
    CHECK(one.loaded() == 2);
    CHECK(one.calls().size() == (how.batch ? 1 : 2));
  }
}

TEST_CASE("after soft_timeout those of many keys that have a stale copy are given as that, and the others waited for") {
  for (const manner& how : with_executor()) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    many_site one{how, {.stale_for = 1h, .soft_timeout = 20ms}};
    const auto keys = keys_of({1, 2, 3});
    check(one.fetch_many(keys), keys, 1, tn::source::computed);
    one->expire(keys[0]);
    one->expire(keys[2]);
    one.begin(2);
    one.hold();
    for (int i = 0; i < 2; ++i) {
      const auto found = one.fetch_many(keys);
      REQUIRE(found.size() == 3);
      for (std::size_t k = 0; k < 3; ++k) {
        CHECK(*found[k] == kpi{1, keys[k].str()});
        CHECK(found[k].source() == (k == 1 ? tn::source::redis : tn::source::stale));
      }
    }
    CHECK(one->stats().stale == 4);
    auto waiting = on_thread([&] { return one.fetch_many(keys_of({1, 4})); });
    REQUIRE(eventually([&] { return one->stats().loads == (how.batch ? 6 : 5); }));
    CHECK(waiting.wait_for(50ms) == std::future_status::timeout);  // 4 has no copy
    one.release();
    const auto found = waiting.get();
    CHECK(found[0].source() == tn::source::stale);
    CHECK(*found[1] == kpi{2, gateway_health(acme, 4).str()});
    CHECK(eventually([&] { return one->get(keys[0]) && one->get(keys[2]); }));
    check(one.fetch_many(keys_of({1, 3, 4})), keys_of({1, 3, 4}), 2, tn::source::redis);
    CHECK(one.loaded() == 6);
  }
}

TEST_CASE(
    "many values that are due are given at once, and each is loaded anew once: in the background with an executor") {
  for (const manner& how : all_manners) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    const tn::cache_options options{.ttl = 60s, .jitter = 0, .refresh_ahead = 0.001};
    many_site one{how, options};
    const auto keys = keys_of({1, 2, 3});
    check(one.fetch_many(keys), keys, 1, tn::source::computed);
    one.begin(2);
    if (how.executor) one.hold();
    std::size_t new_ones = 0;
    CHECK(eventually([&] {
      for (const auto& each : one.fetch_many(keys)) new_ones += each->property_count == 1 ? 0U : 1U;
      return one->stats().loads == 6;
    }));
    CHECK((how.executor ? new_ones == 0 : new_ones >= 3));  // those who do not wait have the old values
    one.release();
    CHECK(eventually([&] {
      return std::ranges::all_of(keys, [&](const tn::key& k) { return one->get(k).value()->property_count == 2; });
    }));
    CHECK(one.loaded() == 6);
    CHECK(one->stats().refreshes == 3);
    CHECK(one->stats().misses == (how.executor ? 3 : 6));
    CHECK(one->close(20s));
  }
}

TEST_CASE("what the load of many keys throws comes to its callers, is reported for each, and leaves stale copies") {
  for (const manner& how : all_manners) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    many_site one{how, {.stale_for = 1h, .failure_throttle = 0ms}};
    const auto keys = keys_of({1, 2});
    one.fail();
    CHECK_THROWS_AS(one.fetch_many(keys), std::runtime_error);
    const auto told = one.heard.all(tn::events::load_failed);
    REQUIRE(told.size() == 2);
    for (const auto& each : told) {
      CHECK(each.text.at("detail") == "no such table");
      CHECK(each.number.at("background") == (how.executor ? 1 : 0));
    }
    for (const tn::key& k : keys) {
      one->put(k, {0, k.str()});
      one->expire(k);
    }
    check(one.fetch_many(keys), keys, 0, tn::source::stale);
    CHECK(one->stats().load_failures == 4);
    CHECK(one->stats().loads == 4);
  }
}

TEST_CASE("many loads that an invalidation overtakes store nothing that is served") {
  for (const manner& how : all_manners) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    many_site one{how};
    const auto keys = keys_of({1, 2});
    one.hold();
    auto loading = on_thread([&] { return one.fetch_many(keys); });
    REQUIRE(eventually([&] { return one.calls().size() == 1; }));
    tn::invalidator{redis.client, tn::catalog{gateway_health}}.invalidate(acme);
    one.release();
    for (const auto& each : loading.get()) CHECK_FALSE(each.stored());
    for (const tn::key& k : keys) CHECK_FALSE(one->get(k).has_value());
    CHECK(one->stats().fenced == 2);
    CHECK(one.heard.all(tn::events::load_fenced).size() == 2);
  }
}

TEST_CASE("close tells the load of many keys to stop, and the destructor waits for it") {
  for (const manner& how : with_executor()) {
    CAPTURE(how.name);
    const support::must_end ends;
    const redis_rig redis;
    many_site one{how, {.hard_timeout = 20ms}};
    const auto keys = keys_of({1, 2});
    one.hold();
    CHECK(support::failure_of([&] { (void)one.fetch_many(keys); }).code == tn::errc::load_timeout);
    REQUIRE(eventually([&] { return one.calls().size() == 1; }));
    CHECK_FALSE(one.all_stopped());
    CHECK_FALSE(one->close(10ms));
    CHECK(one.all_stopped());
    one.release();
    CHECK(one->close(20s));
    CHECK(one.all_stopped());
    const auto begun = keys_of({1});  // without a batch loader the other load is not begun any more
    check(one.fetch_many(begun), begun, 1, tn::source::redis);
  }
}
