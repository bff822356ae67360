// What an awaited call costs, as the headers promise it.

#include "support/allocation_counter.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <string>

namespace {

using namespace tenantry;

/// With inline_executor everything that a call allocates is allocated on the I/O thread, once the coroutine is there.
task<std::size_t> allocations_of_gets(const client& redis, int count) {
  for (int i = 0; i < 100; ++i) co_await redis.async_execute("GET", "k");
  const support::allocation_counter counter;
  for (int i = 0; i < count; ++i) co_await redis.async_execute("GET", "k");
  co_return counter.count();
}

}  // namespace

TEST_CASE("an awaited GET allocates three times: its command, its coroutine and its value") {
  support::need_redis();
  const testing::redis_server server;
  client_options options = client_options::from_url(server.url());
  options.executor = inline_executor();
  client redis{options};
  redis.execute("SET", "k", std::string(100, 'v'));
  CHECK(sync_wait(allocations_of_gets(redis, 1000)) <= 3000);
}
