// How much coroutines may have under way, all together and for each tenant.

#include "support/async_calls.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/tenant.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::caught;
using support::eventually;
using support::failure_of;
using support::has_ended;
using support::lane_of;
using support::result_of;
using support::started;
using support::under_way;
using testing::redis_server;

client_options bounded(const redis_server& server, const call_bounds& bounds) {
  client_options options = client_options::from_url(server.url());
  options.bounds = bounds;
  options.timeout = 60s;
  return options;
}

bool is_overloaded(const caught& how) { return how.code == errc::overloaded && how.execution == execution::not_sent; }

/// Calls whose replies are their own numbers, from 0.
class numbered_calls {
 public:
  void add(const caller& through, int count) {
    for (int i = 0; i < count; ++i) calls_.push_back(started(through.async_execute("ECHO", calls_.size())));
  }
  [[nodiscard]] bool none_has_ended() const { return std::ranges::none_of(calls_, has_ended<reply>); }
  int wrong() {
    int count = 0;
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      if (result_of(calls_[i]).str() != std::to_string(i)) ++count;
    }
    return count;
  }

 private:
  std::vector<under_way<reply>> calls_;
};

/// Fills a client whose server is frozen: so many commands are written.
void fill(const client& redis, numbered_calls& calls, int in_flight) {
  calls.add(redis, in_flight);
  REQUIRE(eventually([&] { return lane_of(redis).in_flight == static_cast<std::size_t>(in_flight); }));
}

}  // namespace

TEST_CASE("a call beyond the bounds is overloaded at once, and the others get their replies") {
  support::need_redis();
  redis_server server;
  client redis{bounded(server, {.in_flight = 4, .queued = 8})};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  numbered_calls calls;
  fill(redis, calls, 4);
  calls.add(redis, 8);
  for (int i = 0; i < 3; ++i) CHECK(is_overloaded(failure_of(redis.async_execute("SET", "k", "v"))));
  CHECK(lane_of(redis).in_flight == 4);
  CHECK(lane_of(redis).queued == 8);
  CHECK(lane_of(redis).overloaded == 3);
  CHECK(calls.none_has_ended());
  server.resume();
  CHECK(calls.wrong() == 0);
  CHECK(sync_wait(redis.async_execute("EXISTS", "k")).integer() == 0);
}

TEST_CASE("the commands of async_execute_all count one by one, and more than a bound pass where nothing waits") {
  support::need_redis();
  redis_server server;
  client redis{bounded(server, {.in_flight = 2, .queued = 4})};
  CHECK(sync_wait(redis.async_execute_all(std::vector<command>(20, command{"PING"}))).size() == 20);
  server.pause();
  numbered_calls calls;
  fill(redis, calls, 2);
  calls.add(redis, 2);
  CHECK(is_overloaded(failure_of(redis.async_execute_all(std::vector<command>(3, command{"PING"})))));
  calls.add(redis, 2);
  server.resume();
  CHECK(calls.wrong() == 0);
}

TEST_CASE("bytes that wait are bounded") {
  support::need_redis();
  redis_server server;
  client redis{bounded(server, {.in_flight = 1, .queued_bytes = 10'000})};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  numbered_calls calls;
  fill(redis, calls, 1);
  auto large = started(redis.async_execute("ECHO", std::string(8'000, 'v')));
  CHECK(is_overloaded(failure_of(redis.async_execute("ECHO", std::string(3'000, 'v')))));
  calls.add(redis, 5);
  server.resume();
  CHECK(calls.wrong() == 0);
  CHECK(result_of(large).str() == std::string(8'000, 'v'));
}

TEST_CASE("a call that ends before it was written makes room for another") {
  support::need_redis();
  redis_server server;
  client redis{bounded(server, {.in_flight = 1, .queued = 1})};
  sync_wait(redis.async_execute("PING"));
  server.pause();
  numbered_calls calls;
  fill(redis, calls, 1);
  CHECK(failure_of(redis.with({.timeout = 20ms}).async_execute("PING")).code == errc::timeout);
  calls.add(redis, 1);
  CHECK(is_overloaded(failure_of(redis.async_execute("PING"))));
  server.resume();
  CHECK(calls.wrong() == 0);
}

TEST_CASE("without a connection calls wait within a bound of their own, and are served when there is one") {
  support::need_redis();
  redis_server server;
  server.kill();
  client redis{bounded(server, {.queued_while_down = 4})};
  numbered_calls calls;
  calls.add(redis, 4);
  CHECK(is_overloaded(failure_of(redis.async_execute("SET", "k", "v"))));
  server.start();
  CHECK(calls.wrong() == 0);
  CHECK(sync_wait(redis.async_execute("EXISTS", "k")).integer() == 0);
}

TEST_CASE("a tenant that floods fills its own share, and leaves the others theirs") {
  support::need_redis();
  redis_server server;
  client redis{bounded(server, {.in_flight = 4, .queued = 8, .tenant_share = 0.25})};
  const tenant_id acme{"acme"};
  const tenant_id globex{"globex"};
  const caller of_acme = redis.with({.tenant = &acme});
  const caller of_globex = redis.with({.tenant = &globex});
  sync_wait(redis.async_execute("PING"));
  server.pause();
  numbered_calls calls;
  fill(redis, calls, 4);
  calls.add(of_acme, 2);
  const caught refused = failure_of(of_acme.async_execute("PING"));
  CHECK(is_overloaded(refused));
  CHECK(refused.text.find("acme") != std::string::npos);
  calls.add(of_globex, 2);
  CHECK(is_overloaded(failure_of(of_globex.async_execute("PING"))));
  calls.add(redis, 4);
  CHECK(is_overloaded(failure_of(redis.async_execute("PING"))));
  CHECK(lane_of(redis).queued == 8);
  CHECK(calls.none_has_ended());
  server.resume();
  CHECK(calls.wrong() == 0);
  CHECK(sync_wait(of_acme.async_execute("ECHO", "again")).str() == "again");
}

TEST_CASE("a tenant's share of what is in flight leaves room for the calls of others") {
  support::need_redis();
  redis_server server;
  client redis{bounded(server, {.in_flight = 8, .tenant_share = 0.25})};
  const tenant_id acme{"acme"};
  const tenant_id globex{"globex"};
  const caller of_acme = redis.with({.tenant = &acme});
  const caller of_globex = redis.with({.tenant = &globex});
  sync_wait(redis.async_execute("PING"));
  server.pause();
  numbered_calls calls;
  calls.add(of_acme, 10);
  REQUIRE(eventually([&] { return lane_of(redis).in_flight == 2; }));
  calls.add(of_globex, 1);
  CHECK(eventually([&] { return lane_of(redis).in_flight == 3; }));
  CHECK(lane_of(redis).queued == 8);
  server.resume();
  CHECK(calls.wrong() == 0);
}

TEST_CASE("of the tenants that wait each has one call written in turn") {
  support::need_redis();
  redis_server server;
  client redis{bounded(server, {.in_flight = 1, .tenant_share = 0.5})};
  const tenant_id acme{"acme"};
  const tenant_id globex{"globex"};
  const caller of_acme = redis.with({.tenant = &acme});
  const caller of_globex = redis.with({.tenant = &globex});
  sync_wait(redis.async_execute("PING"));
  server.pause();
  numbered_calls calls;
  fill(redis, calls, 1);
  std::vector<under_way<reply>> pushes;
  for (int i = 0; i < 20; ++i) pushes.push_back(started(of_acme.async_execute("RPUSH", "order", "acme")));
  for (int i = 0; i < 2; ++i) pushes.push_back(started(of_globex.async_execute("RPUSH", "order", "globex")));
  server.resume();
  for (auto& each : pushes) result_of(each);
  CHECK(calls.wrong() == 0);
  const reply order = sync_wait(redis.async_execute("LRANGE", "order", 0, 3));
  CHECK(std::ranges::count(order.elements(), "globex", [](const reply& each) { return each.str(); }) == 2);
}
