// How much may wait in a client, and whose share of it.

#include "support/errors.hpp"
#include "support/redis_probe.hpp"
#include "support/undeterred.hpp"

#include <tenantry/client.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::caught;
using support::eventually;
using support::failure_of;
using support::undeterred;
using testing::redis_server;

bool is_overloaded(const caught& how) { return how.code == errc::overloaded && how.execution == execution::not_sent; }

/// A server of the test's own, and a client with small bounds.
struct rig {
  explicit rig(const call_bounds& bounds) : redis{options(bounds)} { redis.execute("PING"); }

  [[nodiscard]] client_options options(const call_bounds& bounds) const {
    client_options small = undeterred(server.url() + "?timeout=40s");
    small.bounds = bounds;
    return small;
  }
  [[nodiscard]] lane_metrics lane() const { return redis.metrics().lanes.at(0); }
  [[nodiscard]] bool waiting(std::uint64_t in_flight, std::uint64_t queued) const {
    return eventually([&] { return lane().in_flight == in_flight && lane().queued == queued; });
  }
  /// Kills the server, until the client has noticed.
  [[nodiscard]] bool is_down() {
    server.kill();
    return eventually([&] {
      try {
        redis.with({.timeout = 1ms}).execute("PING");
      } catch (const error& fault) {
        return fault.code() == errc::unreachable;
      }
      return false;
    });
  }
  /// One call in a thread of its own, until the rig ends; failures are counted.
  void call(const tenant_id* whose, std::vector<command> commands) {
    threads.emplace_back([this, whose, all = std::move(commands)] {
      try {
        redis.with({.tenant = whose}).execute_all(all);
        ++answered;
      } catch (const error&) {
        ++failed;
      }
    });
  }
  void join() {
    for (std::jthread& each : threads) each.join();
    threads.clear();
  }

  redis_server server = [] {
    support::need_redis();
    return redis_server{};
  }();
  client redis;
  std::atomic<int> answered = 0;
  std::atomic<int> failed = 0;
  std::vector<std::jthread> threads;
};

/// Thaws the server at the end of its scope, also when an assertion ends the test, so that no thread waits for long.
class frozen {
 public:
  explicit frozen(redis_server& server) : server_{&server} { server.pause(); }
  frozen(const frozen&) = delete;
  frozen& operator=(const frozen&) = delete;
  ~frozen() { thaw(); }
  void thaw() {
    if (server_ != nullptr) server_->resume();
    server_ = nullptr;
  }

 private:
  redis_server* server_;
};

std::vector<command> incrs(std::size_t count, const std::string& key = "n") {
  return std::vector<command>(count, command{"INCR", key});
}

}  // namespace

TEST_CASE("commands beyond the bounds of a stuck connection are refused unsent, the others run") {
  rig on{{.in_flight = 4, .queued = 3}};
  frozen stuck{on.server};
  on.call(nullptr, incrs(4));
  REQUIRE(on.waiting(4, 0));
  on.call(nullptr, incrs(2));
  REQUIRE(on.waiting(4, 2));
  CHECK(is_overloaded(failure_of([&] { on.redis.execute_all(incrs(2)); })));
  on.call(nullptr, incrs(1));
  REQUIRE(on.waiting(4, 3));
  const auto before = on.lane();
  CHECK(is_overloaded(failure_of([&] { on.redis.execute("INCR", "n"); })));
  CHECK(on.lane().overloaded == before.overloaded + 1);
  CHECK(on.lane().commands == before.commands);
  stuck.thaw();
  on.join();
  CHECK(on.answered == 3);
  CHECK(on.redis.execute("GET", "n").str() == "7");
  CHECK(on.waiting(0, 0));
}

TEST_CASE("bytes beyond the bound of a stuck connection are refused unsent") {
  rig on{{.in_flight = 1, .queued_bytes = 1000}};
  frozen stuck{on.server};
  on.call(nullptr, incrs(1));
  REQUIRE(on.waiting(1, 0));
  on.call(nullptr, {command{"SET", "a", std::string(600, 'x')}});
  REQUIRE(on.waiting(1, 1));
  CHECK(on.lane().queued_bytes >= 600);
  CHECK(is_overloaded(failure_of([&] { on.redis.execute("SET", "b", std::string(600, 'x')); })));
  on.call(nullptr, incrs(1));  // a small one fits
  REQUIRE(on.waiting(1, 2));
  stuck.thaw();
  on.join();
  CHECK(on.answered == 3);
  CHECK(on.redis.execute("EXISTS", "b").integer() == 0);
}

TEST_CASE("a deadline that passes in the queue gives its room back") {
  rig on{{.in_flight = 1, .queued = 1}};
  frozen stuck{on.server};
  on.call(nullptr, incrs(1));
  REQUIRE(on.waiting(1, 0));
  for (int i = 0; i < 3; ++i) {
    const auto fault = failure_of([&] { on.redis.with({.timeout = 20ms}).execute("INCR", "never"); });
    CHECK(fault.code == errc::timeout);
    CHECK(fault.execution == execution::not_sent);
  }
  CHECK(on.waiting(1, 0));
  stuck.thaw();
  on.join();
  CHECK(on.redis.execute("EXISTS", "never").integer() == 0);
}

TEST_CASE("one call that is larger than every bound is let through when nothing else waits") {
  rig on{{.in_flight = 4, .in_flight_bytes = 1000, .queued = 4, .queued_bytes = 1000}};
  const tenant_id acme{"acme"};
  const std::string large(100'000, 'x');
  CHECK(on.redis.execute("SET", "k", large).str() == "OK");
  CHECK(on.redis.with({.tenant = &acme}).execute("GET", "k").str() == large);
  CHECK(on.redis.with({.tenant = &acme}).execute("SET", "k", large).str() == "OK");
  CHECK(on.redis.with({.tenant = &acme}).execute_all(incrs(100)).at(99).integer() == 100);
  CHECK(on.lane().overloaded == 0);
}

TEST_CASE("calls beyond the bound of a client without a connection are refused unsent, the others wait for it") {
  rig on{{.queued_while_down = 3}};
  REQUIRE(on.is_down());
  on.call(nullptr, incrs(1));
  on.call(nullptr, incrs(2));
  REQUIRE(eventually([&] { return on.lane().queued == 3; }));
  CHECK(is_overloaded(failure_of([&] { on.redis.execute("INCR", "n"); })));
  on.server.start();
  on.join();
  CHECK(on.answered == 2);
  CHECK(on.redis.execute("GET", "n").str() == "3");
}

TEST_CASE("bytes beyond the bound of a client without a connection are refused unsent") {
  rig on{{.queued_bytes_while_down = 1000}};
  REQUIRE(on.is_down());
  on.call(nullptr, {command{"SET", "a", std::string(600, 'x')}});
  REQUIRE(eventually([&] { return on.lane().queued == 1; }));
  CHECK(is_overloaded(failure_of([&] { on.redis.execute("SET", "b", std::string(600, 'x')); })));
  on.server.start();
  on.join();
  CHECK(on.answered == 1);
  CHECK(on.redis.execute("STRLEN", "a").integer() == 600);
}

TEST_CASE("a tenant that floods is refused beyond its share, and others are not") {
  const tenant_id noisy{"noisy"};
  const tenant_id quiet{"quiet"};
  rig on{{.in_flight = 8, .queued = 8, .tenant_share = 0.25}};
  frozen stuck{on.server};
  // Its share of what is in flight, then of the queue: two commands each.
  for (int i = 0; i < 4; ++i) {
    on.call(&noisy, incrs(1, "noisy"));
    REQUIRE(eventually([&] { return on.lane().in_flight + on.lane().queued == static_cast<std::uint64_t>(i) + 1; }));
  }
  REQUIRE(on.waiting(2, 2));
  const auto refused = failure_of([&] { on.redis.with({.tenant = &noisy}).execute("INCR", "noisy"); });
  CHECK(is_overloaded(refused));
  CHECK(refused.text.find("noisy") != std::string::npos);

  on.call(&quiet, incrs(1, "quiet"));  // does not wait behind the other's queue
  REQUIRE(on.waiting(3, 2));
  on.call(nullptr, incrs(4, "nobody"));
  REQUIRE(on.waiting(7, 2));
  stuck.thaw();
  on.join();
  CHECK(on.failed == 0);
  CHECK(on.redis.execute("GET", "noisy").str() == "4");
  CHECK(on.redis.execute("GET", "quiet").str() == "1");
  // Its share is free again.
  CHECK(on.redis.with({.tenant = &noisy}).execute("INCR", "noisy").integer() == 5);
}

TEST_CASE("a share that is less than one command still lets a tenant's first call through") {
  const tenant_id acme{"acme"};
  const tenant_id other{"other"};
  rig on{{.in_flight = 3, .queued = 3, .tenant_share = 0.01}};
  frozen stuck{on.server};
  on.call(&acme, incrs(1));
  REQUIRE(on.waiting(1, 0));
  on.call(&acme, incrs(1));
  REQUIRE(on.waiting(1, 1));
  CHECK(is_overloaded(failure_of([&] { on.redis.with({.tenant = &acme}).execute("PING"); })));
  on.call(&other, incrs(1));
  REQUIRE(on.waiting(2, 1));
  stuck.thaw();
  on.join();
  CHECK(on.redis.execute("GET", "n").str() == "3");
}

TEST_CASE("a caller that stops waiting gives its tenant's share back, though its reply is still to come") {
  const tenant_id acme{"acme"};
  rig on{{.in_flight = 8, .queued = 8, .tenant_share = 0.25}};
  frozen stuck{on.server};
  for (int i = 0; i < 3; ++i) {
    const auto fault = failure_of([&] { on.redis.with({.timeout = 20ms, .tenant = &acme}).execute("INCR", "n"); });
    CHECK(fault.code == errc::timeout);
    CHECK(fault.execution == execution::unknown);
  }
  CHECK(on.waiting(3, 0));
  stuck.thaw();
  CHECK(on.redis.execute("GET", "n").str() == "3");
  CHECK(on.waiting(0, 0));
}
