// Sweeps whose server goes away in the middle.

#include "support/errors.hpp"
#include "support/sweep_rig.hpp"

#include <tenantry/invalidator.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace {

namespace tn = tenantry;
using namespace std::chrono_literals;
using namespace support;

constexpr std::size_t mine = 3000;

/// A server whose keys survive its end, with keys of two tenants.
struct durable_rig {
  explicit durable_rig(std::chrono::milliseconds timeout = 10s)
      : server{[] {
          need_redis();
          return tn::testing::redis_server_options{.arguments = {"--appendonly", "yes", "--appendfsync", "always"}};
        }()},
        redis{[&] {
          auto options = tn::client_options::from_url(server.url());
          options.timeout = timeout;
          return options;
        }()} {
    store(redis, readings_of(acme, mine));
    store(redis, readings_of(globex, mine));
  }

  /// Sweeps, and does something to the server after the second page.
  caught sweep_that_fails(const std::function<void()>& in_the_middle) {
    const tn::invalidator inv{redis, application};
    int pages = 0;
    return failure_of([&] {
      (void)sweep(inv, {.on_progress = [&](const tn::sweep_report& now) {
                    told = now;
                    if (++pages == 2) in_the_middle();
                  }});
    });
  }
  /// Sweeps again, and finds what the failed one left.
  void expect_the_rest_goes() {
    const tn::invalidator inv{redis, application};
    const std::size_t left = everything(redis).size();
    CHECK(left <= 2 * mine - told.deleted);
    const auto again = sweep(inv, {});
    CHECK(again.complete);
    CHECK(again.deleted == left - mine);
    CHECK(everything(redis) == readings_of(globex, mine));
  }
  tn::sweep_report sweep(const tn::invalidator& inv, const tn::sweep_options& how) const {
    return async ? sync_wait(inv.async_sweep(acme, how)) : inv.sweep(acme, how);
  }

  bool async = false;
  tn::tenant_id acme{"acme"};
  tn::tenant_id globex{"globex"};
  tn::testing::redis_server server;
  tn::client redis;
  tn::sweep_report told;  // what on_progress heard last
};

bool is_connection_failure(const caught& failure) {
  return failure.code == tn::errc::connection_lost || failure.code == tn::errc::unreachable;
}

}  // namespace

TEST_CASE(
    "a server killed in the middle of a sweep is a typed error, progress told what was done, and it can be repeated") {
  for (const bool async : {false, true}) {
    durable_rig rig;
    rig.async = async;
    const auto failure = rig.sweep_that_fails([&] { rig.server.kill(); });
    CAPTURE(failure.text);
    CHECK(is_connection_failure(failure));
    CHECK(rig.told.deleted > 0);
    CHECK(rig.told.deleted < mine);
    CHECK_FALSE(rig.told.complete);
    rig.server.start();
    rig.expect_the_rest_goes();
  }
}

TEST_CASE("a sweep does not go on in a server that was restarted, where its cursor means nothing") {
  for (const bool async : {false, true}) {
    durable_rig rig;
    rig.async = async;
    const auto failure = rig.sweep_that_fails([&] {
      rig.server.kill();
      rig.server.start();
    });
    CAPTURE(failure.text);
    CHECK(is_connection_failure(failure));
    rig.expect_the_rest_goes();
  }
}

TEST_CASE("a sweep whose connection is killed ends with an error, and the next one does the rest") {
  for (const bool async : {false, true}) {
    durable_rig rig;
    rig.async = async;
    const auto failure = rig.sweep_that_fails([&] {
      tn::client killer{rig.server.unix_url()};
      killer.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    });
    CAPTURE(failure.text);
    CHECK(is_connection_failure(failure));
    rig.expect_the_rest_goes();
  }
}

TEST_CASE("a server that hangs in the middle of a sweep costs it the client's deadline") {
  for (const bool async : {false, true}) {
    durable_rig rig{2s};
    rig.async = async;
    const auto failure = rig.sweep_that_fails([&] { rig.server.pause(); });
    CAPTURE(failure.text);
    CHECK(failure.code == tn::errc::timeout);
    CHECK(failure.execution == tn::execution::unknown);
    rig.server.resume();
    rig.expect_the_rest_goes();
  }
}

TEST_CASE("closing the client ends a sweep") {
  for (const bool async : {false, true}) {
    durable_rig rig;
    rig.async = async;
    const auto failure = rig.sweep_that_fails([&] { rig.redis.close(0ms); });
    CAPTURE(failure.text);
    CHECK(failure.code == tn::errc::closed);
  }
}
