// The bounds and the end of what is queued: what is refused, what the observer is told, and clients that end first.

#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/random_bytes.hpp"
#include "support/undelivered_rig.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/task.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::eventually;
using support::failure_of;
using support::gateway_health;
using support::globex;
using support::kpi;
using support::outage;
using support::portfolio_kpi;
using support::reached;
using support::undelivered_rig;

constexpr std::array all_reached{reached::key, reached::tag, reached::tenant};
constexpr tn::breaker_options opens_for_good{
    .consecutive_failures = 1, .open_for = std::chrono::hours{1}, .longest_open_for = std::chrono::hours{1}};

/// Commands that the client's lanes were given for blocking calls.
std::uint64_t blocking_commands(const tn::client& redis) {
  std::uint64_t all = 0;
  for (const auto& lane : redis.metrics().lanes) {
    if (lane.name.starts_with("blocking")) all += lane.commands + lane.connect_failures;
  }
  return all;
}

/// An executor of a program that runs what is given to it when it comes to it.
class by_hand {
 public:
  [[nodiscard]] tn::executor get() {
    return [this](std::coroutine_handle<> ready) {
      const std::lock_guard held{mutex_};
      given_.push_back(ready);
    };
  }
  [[nodiscard]] std::size_t count() const {
    const std::lock_guard held{mutex_};
    return given_.size();
  }
  void run() {
    for (const std::coroutine_handle<> each : take()) each.resume();
  }

 private:
  std::vector<std::coroutine_handle<>> take() {
    const std::lock_guard held{mutex_};
    return std::exchange(given_, {});
  }

  mutable std::mutex mutex_;
  std::vector<std::coroutine_handle<>> given_;
};

}  // namespace

TEST_CASE("the same invalidation queued a thousand times occupies one place, and is delivered") {
  const support::must_end ends;
  undelivered_rig rig{20s, opens_for_good};
  const tn::key k = portfolio_kpi(acme);
  rig.others.put(k, {1, "old"});
  rig.begin(outage::unreachable);
  for (int i = 0; i < 500; ++i) {
    CHECK(rig.cache.invalidate(k) == tn::delivery::queued);
    CHECK(tn::sync_wait(rig.cache.async_invalidate(k)) == tn::delivery::queued);
  }
  CHECK(rig.inv.queued() == 1);
  rig.end(outage::unreachable);
  CHECK(rig.delivered());
  CHECK_FALSE(rig.others.get(k).has_value());
}

TEST_CASE("ten thousand different invalidations are queued and delivered, and the next one throws") {
  const support::must_end ends{110s};
  constexpr int most = 10'000;
  undelivered_rig rig{20s, opens_for_good};
  rig.begin(outage::unreachable);
  for (int i = 0; i < most; ++i) {
    if (rig.cache.invalidate(gateway_health(acme, i)) != tn::delivery::queued) FAIL("not queued");
  }
  CHECK(rig.inv.queued() == most);
  CHECK(failure_of([&] { rig.cache.invalidate(gateway_health(acme, most)); }).code == tn::errc::unreachable);
  for (const reached what : all_reached) {
    CHECK_THROWS_AS(rig.invalidate(what, true, portfolio_kpi(acme)), tn::connection_error);
    CHECK_THROWS_AS(tn::sync_wait(rig.async_invalidate(what, true, portfolio_kpi(acme))), tn::connection_error);
  }
  CHECK(rig.cache.invalidate(gateway_health(acme, 7)) == tn::delivery::queued);  // which has its place
  CHECK(rig.inv.queued() == most);
  const tn::key last = gateway_health(acme, most - 1);
  rig.others.put(last, {1, "old"});
  CHECK_FALSE(rig.cache.get(last).has_value());
  rig.end(outage::unreachable);
  CHECK(rig.delivered());
  CHECK(rig.told.sum(tn::events::invalidations_delivered, "count") == most);
  CHECK(rig.told.all(tn::events::invalidations_delivered).size() < most / 10);  // many at a time
  CHECK_FALSE(rig.others.get(last).has_value());
}

TEST_CASE("with an open breaker invalidations are queued without a try") {
  const support::must_end ends;
  for (const outage how : {outage::unreachable, outage::frozen}) {
    undelivered_rig rig{how == outage::frozen ? 300ms : 20s, opens_for_good};
    rig.begin(how);
    CHECK(rig.invalidate(reached::key, false, portfolio_kpi(acme)) == tn::delivery::queued);
    CHECK(rig.redis.metrics().breaker == "open");
    const std::uint64_t before = blocking_commands(rig.redis);
    for (const reached what : all_reached) {
      for (const bool softly : {false, true}) {
        CHECK(rig.invalidate(what, softly, portfolio_kpi(globex)) == tn::delivery::queued);
        CHECK(tn::sync_wait(rig.async_invalidate(what, softly, portfolio_kpi(globex))) == tn::delivery::queued);
      }
    }
    CHECK(blocking_commands(rig.redis) == before);
    const auto told = rig.told.all(tn::events::invalidation_queued);
    REQUIRE(told.size() == 13);
    for (std::size_t i = 1; i < told.size(); ++i) CHECK(told[i].text.at("code") == "unreachable");  // and no timeout
    rig.end(how);
    CHECK(rig.delivered());
  }
}

TEST_CASE("as soon as what was queued is delivered, an open breaker lets the next call pass") {
  const support::must_end ends;
  undelivered_rig rig{1s, opens_for_good};
  const tn::key k = portfolio_kpi(acme);
  CHECK(rig.cache.fetch(k).stored());  // so that there is a connection, which an outage of this kind leaves
  rig.begin(outage::frozen);
  CHECK(rig.cache.invalidate(k) == tn::delivery::queued);
  CHECK(rig.redis.metrics().breaker == "open");
  rig.end(outage::frozen);
  CHECK(eventually([&] { return rig.inv.queued() == 0; }));
  CHECK(rig.cache.fetch(k).stored());
  CHECK(rig.cache.fetch(k).source() == tn::source::redis);
}

TEST_CASE("the observer is told what is queued and what is delivered, and no key's name") {
  undelivered_rig rig;
  rig.begin(outage::takes_no_writes);
  CHECK(rig.cache.invalidate(gateway_health(acme, "secret-key")) == tn::delivery::queued);
  CHECK(rig.inv.invalidate(tn::tag{globex, "secret-tag"}) == tn::delivery::queued);
  CHECK(rig.cache.invalidate(gateway_health(acme, "secret-key")) == tn::delivery::queued);
  const auto queued = rig.told.all(tn::events::invalidation_queued);
  REQUIRE(queued.size() == 3);
  CHECK(queued[0].text == std::map<std::string, std::string>{{"tenant", "acme"}, {"code", "read_only"}});
  CHECK(queued[0].number == std::map<std::string, std::int64_t>{{"waiting", 1}});
  CHECK(queued[1].text.at("tenant") == "globex");
  CHECK(queued[1].number.at("waiting") == 2);
  CHECK(queued[2].number.at("waiting") == 2);
  CHECK(rig.told.all(tn::events::invalidations_delivered).empty());

  rig.end(outage::takes_no_writes);
  CHECK(rig.delivered());
  CHECK(rig.told.sum(tn::events::invalidations_delivered, "count") == 2);
  for (const auto& each : rig.told.all(tn::events::invalidations_delivered)) CHECK(each.text.empty());
  CHECK(rig.told.all(tn::events::invalidations_dropped).empty());
  CHECK(rig.told.texts().find("secret") == std::string::npos);
}

TEST_CASE("what the server refuses for good is dropped, and the observer told of it, without a key's name") {
  const support::must_end ends;
  for (const reached what : all_reached) {
    for (const bool softly : {false, true}) {
      undelivered_rig rig;
      const tn::key k = gateway_health(tn::tenant_id{"secret"}, "secret");
      rig.others.put(k, {1, "old"});
      rig.begin(outage::unreachable);
      CHECK(rig.invalidate(what, softly, k) == tn::delivery::queued);
      CHECK(rig.cache.invalidate(portfolio_kpi(acme)) == tn::delivery::queued);
      const bool both_refused = what == reached::key && !softly;
      for (const char* denied : {"-set", "-pexpire", both_refused ? "-unlink" : "-del"}) {
        rig.elsewhere.execute("ACL", "SETUSER", "default", denied);
      }
      rig.end(outage::unreachable);
      CHECK(rig.delivered());
      CHECK(rig.told.sum(tn::events::invalidations_dropped, "count") == (both_refused ? 2 : 1));
      CHECK(rig.told.sum(tn::events::invalidations_delivered, "count") == (both_refused ? 0 : 1));
      const auto dropped = rig.told.all(tn::events::invalidations_dropped);
      REQUIRE_FALSE(dropped.empty());
      const std::string& code = dropped[0].text.at("code");
      CHECK((code == "no_permission" || code == "server"));  // in a script the server does not say NOPERM
      CHECK_FALSE(dropped[0].text.at("detail").empty());
      for (const auto& each : rig.told.all(tn::events::invalidations_dropped)) {
        CHECK(each.text.at("detail").find("secret") == std::string::npos);
        CHECK_FALSE(each.text.contains("tenant"));
      }
      CHECK(rig.cache.get(k).has_value());  // as far as this process knows it is current again
    }
  }
}

TEST_CASE("errors that are not Redis being away throw with undelivered::queue too, and nothing is queued") {
  undelivered_rig rig;
  const tn::key k = portfolio_kpi(acme);
  SECTION("no permission") {
    for (const char* denied : {"-set", "-unlink", "-del"}) rig.elsewhere.execute("ACL", "SETUSER", "default", denied);
    CHECK(failure_of([&] { rig.cache.invalidate(k); }).code == tn::errc::no_permission);
    CHECK(failure_of([&] { tn::sync_wait(rig.cache.async_invalidate(k)); }).code == tn::errc::no_permission);
    CHECK(failure_of([&] { rig.inv.invalidate(acme); }).code == tn::errc::no_permission);
    CHECK(failure_of([&] { tn::sync_wait(rig.inv.async_invalidate(acme)); }).code == tn::errc::no_permission);
    for (const reached what : all_reached) {
      CHECK_THROWS_AS(rig.invalidate(what, true, k), tn::server_error);
      CHECK_THROWS_AS(tn::sync_wait(rig.async_invalidate(what, true, k)), tn::server_error);
    }
  }
  SECTION("the wrong password") {
    rig.elsewhere.execute("ACL", "SETUSER", "somebody", "on", ">secret", "+@all", "~*");
    tn::client_options options = tn::client_options::from_url(rig.server.url());
    options.username = "somebody";
    options.password = "wrong";
    const tn::client stranger{options};
    tn::cache<kpi> cache{stranger, undelivered_rig::queueing()};
    const tn::invalidator inv{stranger, rig.keys, tn::undelivered::queue};
    CHECK(failure_of([&] { cache.invalidate(k); }).code == tn::errc::auth);
    CHECK(failure_of([&] { inv.invalidate(acme); }).code == tn::errc::auth);
    CHECK(inv.queued() == 0);
  }
  SECTION("a closed client, whatever its breaker says") {
    undelivered_rig broken{20s, opens_for_good};
    broken.begin(outage::unreachable);
    CHECK_THROWS_AS(broken.redis.execute("PING"), tn::connection_error);
    CHECK(broken.redis.metrics().breaker == "open");
    for (undelivered_rig* each : {&rig, &broken}) {
      each->redis.close();
      for (const reached what : all_reached) {
        CHECK(failure_of([&] { each->invalidate(what, false, k); }).code == tn::errc::closed);
        CHECK(failure_of([&] { tn::sync_wait(each->async_invalidate(what, false, k)); }).code == tn::errc::closed);
      }
      CHECK(each->inv.queued() == 0);
    }
  }
  SECTION("a hold that cannot be") {
    for (const std::chrono::milliseconds hold : {std::chrono::milliseconds{-1}, std::chrono::milliseconds::max()}) {
      CHECK_THROWS_AS(rig.cache.invalidate(k, {.hold = hold}), tn::invalid_option);
      CHECK_THROWS_AS(tn::sync_wait(rig.cache.async_invalidate(k, {.hold = hold})), tn::invalid_option);
    }
    rig.begin(outage::unreachable);
    CHECK_THROWS_AS(rig.cache.invalidate(k, {.hold = std::chrono::milliseconds::max()}), tn::invalid_option);
  }
  CHECK(rig.inv.queued() == 0);
  CHECK(rig.told.all(tn::events::invalidation_queued).empty());
}

TEST_CASE("what is queued is delivered also while the client's executor runs nothing, and the client may end before") {
  const support::must_end ends;
  for (const bool is_back : {true, false}) {
    undelivered_rig rig;
    by_hand later;
    tn::client_options options = undelivered_rig::reached_through(rig.proxy.url(), 20s, opens_for_good, rig.told.ear());
    options.executor = later.get();
    auto redis = std::make_unique<tn::client>(options);
    auto cache = std::make_unique<tn::cache<kpi>>(*redis, undelivered_rig::queueing());
    const tn::key k = portfolio_kpi(acme);
    rig.others.put(k, {1, "old"});
    rig.begin(outage::unreachable);
    CHECK(cache->invalidate(k) == tn::delivery::queued);
    CHECK(rig.fails_again());  // so it has made a pause
    if (is_back) {
      rig.end(outage::unreachable);
      CHECK(eventually([&] { return !rig.others.get(k).has_value(); }));
      CHECK(eventually([&] { return !rig.told.all(tn::events::invalidations_delivered).empty(); }));
    }
    cache.reset();
    redis.reset();
    CHECK(later.count() == 0);
    later.run();
  }
}

TEST_CASE("a client with queued invalidations ends at any moment, promptly and without telling anything after it") {
  support::random_bytes random;
  undelivered_rig rig;
  int queued = 0;
  int delivered = 0;
  for (int round = 0; round < 60; ++round) {
    const support::must_end ends;
    const auto how = std::array{outage::unreachable, outage::frozen, outage::takes_no_writes}[random.below(3)];
    std::atomic<bool> gone = false;
    std::atomic<int> told_late = 0;
    std::atomic<int> told_delivered = 0;
    auto options = undelivered_rig::reached_through(rig.proxy.url(), 50ms, {}, [&](const tn::event& what) {
      if (gone) ++told_late;
      if (what.name == tn::events::invalidations_delivered) ++told_delivered;
    });
    if (random.below(4) == 0) options.executor = tn::inline_executor();
    auto redis = std::make_unique<tn::client>(options);
    auto cache = std::make_unique<tn::cache<kpi>>(*redis, undelivered_rig::queueing());
    auto inv = std::make_unique<tn::invalidator>(*redis, rig.keys, tn::undelivered::queue);
    rig.begin(how);
    for (std::size_t i = 1 + random.below(100); i > 0; --i) {
      if (cache->invalidate(gateway_health(acme, i)) == tn::delivery::queued) ++queued;
    }
    if (inv->invalidate(acme) == tn::delivery::queued) ++queued;
    const bool ends_first = random.below(2) == 0;
    if (!ends_first) rig.end(how);
    std::this_thread::sleep_for(std::chrono::microseconds{random.below(60'000)});  // the moment is random
    if (random.below(2) == 0) redis->close(std::chrono::milliseconds{random.below(20)});
    cache.reset();
    inv.reset();
    redis.reset();
    gone = true;
    if (ends_first) rig.end(how);
    CHECK(told_late == 0);
    if (told_delivered > 0) ++delivered;
  }
  CHECK(queued > 0);
  CHECK(delivered > 0);
}
