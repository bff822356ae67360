// Near caches where the server does not let them track: everything works, and Redis answers every read.

#include "support/concurrency.hpp"
#include "support/errors.hpp"
#include "support/kpi.hpp"
#include "support/near_rig.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/client.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using support::acme;
using support::comes_near;
using support::eventually;
using support::gateway_health;
using support::kpi;
using support::near_by;
using support::portfolio_kpi;
using support::tracks;

/// The details of near_refused, as they come.
class refusals {
 public:
  [[nodiscard]] tn::observer hook() {
    return [this](const tn::event& what) {
      if (what.name != tn::events::near_refused) return;
      const auto* detail = what.find("detail");
      const auto* text = detail != nullptr ? std::get_if<std::string_view>(detail) : nullptr;
      const std::lock_guard held{mutex_};
      all_.emplace_back(text != nullptr ? *text : "no detail");
    };
  }
  [[nodiscard]] std::vector<std::string> all() const {
    const std::lock_guard held{mutex_};
    return all_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> all_;
};

/// A server of one's own, and somebody who may do anything there.
struct rig {
  explicit rig(std::vector<std::string> arguments = {}) : server{{.arguments = std::move(arguments)}} {}
  [[nodiscard]] tn::client_options options(std::string user = {}) {
    auto how = tn::client_options::from_url(server.url());
    how.timeout = 20s;
    how.observer = refused.hook();
    if (!user.empty()) {
      how.username = std::move(user);
      how.password = "secret";
    }
    return how;
  }

  refusals refused;
  tn::testing::redis_server server;
};

/// All faces work, nothing is ever near, and the observer was told once, though there are two caches.
void check_works_without(rig& with, const tn::client_options& how) {
  {
    const tn::client redis{how};
    tn::cache<kpi> cache{redis, near_by(), [] { return kpi{1, "computed"}; }};
    tn::cache<kpi> second{redis, near_by()};
    const tn::key k = portfolio_kpi(acme);
    for (int i = 0; i < 10; ++i) {
      CHECK(cache.fetch(k).source() == (i == 0 ? tn::source::computed : tn::source::redis));
      CHECK(tn::sync_wait(cache.async_fetch(k)).source() == tn::source::redis);
      CHECK(second.get(k).value().source() == tn::source::redis);
    }
    CHECK(eventually([&] {
      CHECK(second.get(k).value().source() == tn::source::redis);
      return !with.refused.all().empty();
    }));
    for (int i = 0; i < 10; ++i) {
      const std::vector<tn::key> keys{k, gateway_health(acme, i)};
      CHECK(cache.fetch_many(keys)[0].source() == tn::source::redis);
      cache.put(k, {i, "put"});
      CHECK(cache.get(k).value()->property_count == i);
      CHECK(second.fetch(k, [] { return kpi{-1}; })->property_count == i);
    }
    cache.invalidate(k);
    CHECK_FALSE(second.get(k).has_value());
    CHECK_FALSE(cache.near_stats().tracking);
    CHECK(cache.near_stats().hits == 0);
    CHECK(cache.near_stats().stores == 0);
    CHECK(cache.near_stats().values == 0);
    CHECK(cache.stats().read_failures == 0);
    CHECK(cache.stats().store_failures == 0);
  }
  REQUIRE(with.refused.all().size() == 1);
  CHECK_FALSE(with.refused.all()[0].empty());
  CHECK(with.refused.all()[0] != "no detail");
}

}  // namespace

TEST_CASE("near: a user who may not track works without the near cache, and the observer is told once") {
  support::need_redis();
  const support::must_end ends{100s};
  for (const char* missing : {"-client|tracking", "-client|caching"}) {
    CAPTURE(missing);
    rig with;
    const tn::client direct{with.server.unix_url()};
    direct.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", missing);
    check_works_without(with, with.options("app"));
  }
}

TEST_CASE("near: a user who may not listen to the invalidations works without the near cache, and it is told once") {
  support::need_redis();
  const support::must_end ends;
  rig with;
  const tn::client direct{with.server.unix_url()};
  direct.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "resetchannels", "+@all");
  check_works_without(with, with.options("app"));
}

TEST_CASE("near: a server that does not know CLIENT works without the near cache, and the observer is told once") {
  support::need_redis();
  const support::must_end ends;
  rig with{{"--rename-command", "CLIENT", ""}};
  check_works_without(with, with.options());
}

TEST_CASE("near: a user who may do no more than is documented has a near cache") {
  support::need_redis();
  const support::must_end ends;
  rig with;
  const tn::client direct{with.server.unix_url()};
  direct.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "resetchannels", "&__redis__:invalidate", "+@read",
                 "+@write", "+@scripting", "+@connection", "+@pubsub", "+time");
  const tn::client redis{with.options("app")};
  tn::cache<kpi> cache{redis, near_by()};
  REQUIRE(tracks(cache));
  const tn::key k = portfolio_kpi(acme);
  cache.put(k, {1});
  CHECK(comes_near(cache, k));
  CHECK(with.refused.all().empty());
}

TEST_CASE("T10: a read whose CLIENT CACHING YES is refused is not kept, though the value itself is given") {
  support::need_redis();
  const support::must_end ends;
  rig with;
  const tn::client direct{with.server.unix_url()};
  direct.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all");
  const tn::client redis{with.options("app")};
  tn::cache<std::string> cache{redis, support::bare_near_by()};
  REQUIRE(tracks(cache));
  const tn::key before = gateway_health(acme, "before");
  const tn::key after = gateway_health(acme, "after");
  direct.execute("SET", before, "old");
  direct.execute("SET", after, "old");
  REQUIRE(comes_near(cache, before));
  direct.execute("ACL", "SETUSER", "app", "-client|caching");
  for (int i = 0; i < 10; ++i) {
    const auto found = cache.get(after);
    REQUIRE(found.has_value());
    CHECK(found->source() == tn::source::redis);
    CHECK(**found == "old");
  }
  direct.execute("SET", before, "new");
  direct.execute("SET", after, "new");
  CHECK(support::text_at(cache, after) == "new");
  CHECK(eventually([&] { return support::text_at(cache, before) == "new"; }));
}

TEST_CASE("near: a server that is busy for a moment refuses nothing for good") {
  const support::must_end ends;
  rig with{{"--busy-reply-threshold", "10"}};
  const tn::client redis{with.options()};
  tn::cache<kpi> cache{redis, near_by()};
  REQUIRE(tracks(cache));
  const tn::client other{with.options()};
  other.execute("PING");
  std::thread busy{[&] {
    other.execute("EVAL",
                  "local now = redis.call('TIME') local till = now[1] + 1 "
                  "while now[1] - till < 0 do now = redis.call('TIME') end return 1",
                  "0");
  }};
  const auto is_busy = [&] { return support::ask(with.server, "GET k").starts_with("-BUSY"); };
  const bool seen = eventually(is_busy);
  // The first call on a lane: the server cannot take CLIENT TRACKING now.
  (void)support::failure_of([&] { (void)cache.get(portfolio_kpi(acme)); });
  busy.join();
  REQUIRE(seen);
  cache.put(portfolio_kpi(acme), {1, "after"});
  CHECK(comes_near(cache, portfolio_kpi(acme)));
  CHECK(with.refused.all().empty());
}
