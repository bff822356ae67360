// Which connections and threads coroutines bring with them, and where they go on.

#include "support/async_calls.hpp"
#include "support/concurrency.hpp"
#include "support/redis_probe.hpp"

#include <tenantry/client.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/task.hpp>
#include <tenantry/testing/redis_server.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <deque>
#include <exception>
#include <fstream>
#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace tenantry;
using support::eventually;
using support::result_of;
using support::started;
using support::under_way;
using testing::redis_server;

std::size_t threads_of_this_process() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Threads:")) return std::stoul(line.substr(8));
  }
  return 0;
}

/// Without what the first thread of a program brings with it: ThreadSanitizer starts one of its own then.
std::size_t threads_before() {
  std::thread{[] {}}.join();
  return threads_of_this_process();
}

client_options with_executor(const redis_server& server, executor where) {
  client_options options = client_options::from_url(server.url());
  options.executor = std::move(where);
  return options;
}

/// Where coroutines go on that wait for this thread to run them.
class own_loop {
 public:
  executor get_executor() {
    return [this](std::coroutine_handle<> ready) {
      const std::lock_guard held{mutex_};
      ready_.push_back(ready);
      callers_.insert(std::this_thread::get_id());
      changed_.notify_one();
    };
  }
  /// Runs one; false where none comes within 20 s.
  bool run_one() {
    std::unique_lock held{mutex_};
    if (!changed_.wait_for(held, 20s, [this] { return !ready_.empty(); })) return false;
    const std::coroutine_handle<> next = ready_.front();
    ready_.pop_front();
    held.unlock();
    next.resume();
    return true;
  }
  std::set<std::thread::id> callers() {
    const std::lock_guard held{mutex_};
    return callers_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::coroutine_handle<>> ready_;
  std::set<std::thread::id> callers_;
};

task<std::vector<std::thread::id>> where_it_goes_on(const caller& redis, int times) {
  std::vector<std::thread::id> places;
  for (int i = 0; i < times; ++i) {
    co_await redis.async_execute("PING");
    places.push_back(std::this_thread::get_id());
  }
  co_return places;
}

task<std::thread::id> where_an_error_goes_on(const caller& redis) {
  try {
    co_await redis.async_execute("NOSUCHCOMMAND");
  } catch (const error&) {  // NOLINT(bugprone-empty-catch): where it is caught is what matters
  }
  co_return std::this_thread::get_id();
}

task<bool> held_up(const caller& redis, support::gate& until, std::atomic<int>& holding) {
  co_await redis.async_execute("PING");
  ++holding;
  co_return until.wait();
}

task<reply> blocking_call_inside(client& redis) {
  co_await redis.async_execute("SET", "k", "v");
  co_return redis.execute("GET", "k");
}

std::ptrdiff_t connections_in(const reply& client_list) { return std::ranges::count(client_list.str(), '\n'); }

}  // namespace

TEST_CASE("a purely asynchronous program has one connection") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  std::vector<under_way<reply>> calls;
  for (int i = 0; i < 200; ++i) calls.push_back(started(redis.async_execute("INCR", "n")));
  for (auto& each : calls) result_of(each);
  CHECK(connections_in(sync_wait(redis.async_execute("CLIENT", "LIST"))) == 1);
  CHECK(support::lane_of(redis).connects == 1);
}

TEST_CASE("bulk calls have a second connection: those that say so, and those of more than 256 KiB") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const caller patient = redis.with({.timeout = 30s});
  const auto connections = [&] { return connections_in(sync_wait(patient.async_execute("CLIENT", "LIST"))); };
  sync_wait(patient.async_execute("SET", "k", std::string(250U << 10U, 'v')));
  CHECK(connections() == 1);

  SECTION("that say so") {
    const caller bulk = redis.with({.timeout = 30s, .lane = lane_choice::bulk});
    CHECK(sync_wait(bulk.async_execute("GET", "k")).str().size() == 250U << 10U);
  }
  SECTION("of more than 256 KiB") { sync_wait(patient.async_execute("SET", "large", std::string(300U << 10U, 'v'))); }
  SECTION("of more than 256 KiB together") {
    std::vector<command> commands;
    for (int i = 0; i < 300; ++i) commands.emplace_back("SET", i, std::string(1U << 10U, 'v'));
    CHECK(sync_wait(patient.async_execute_all(std::move(commands))).size() == 300);
  }
  CHECK(connections() == 2);
  CHECK(support::lane_of(redis, "async bulk").replies > 0);
  sync_wait(patient.async_execute("SET", "large", std::string(300U << 10U, 'v')));
  CHECK(connections() == 2);
}

TEST_CASE("threads appear with the first asynchronous call, and end with their client") {
  support::need_redis();
  const redis_server server;
  const std::size_t before = threads_before();
  {
    client redis{server.url()};
    const auto never = redis.async_execute("PING");
    CHECK(redis.execute("PING").str() == "PONG");
    CHECK(eventually([&] { return threads_of_this_process() == before; }));
    sync_wait(where_it_goes_on(redis, 20));
    CHECK(threads_of_this_process() >= before + 2);                              // the I/O thread, and one of the pool
    CHECK(eventually([&] { return threads_of_this_process() <= before + 3; }));  // connecting took one for a moment
  }
  CHECK(eventually([&] { return threads_of_this_process() == before; }));
}

TEST_CASE("with an executor of its own a client has no thread but that for I/O") {
  support::need_redis();
  const redis_server server;
  const std::size_t before = threads_before();
  client redis{with_executor(server, inline_executor())};
  sync_wait(where_it_goes_on(redis, 20));
  CHECK(eventually([&] { return threads_of_this_process() == before + 1; }));
}

TEST_CASE("coroutines go on on the executor of the options, which one thread asks for that") {
  support::need_redis();
  const redis_server server;
  own_loop loop;
  client redis{with_executor(server, loop.get_executor())};
  auto places = started(where_it_goes_on(redis, 20));
  auto after_error = started(where_an_error_goes_on(redis));
  for (int i = 0; i < 21; ++i) REQUIRE(loop.run_one());
  for (const std::thread::id each : result_of(places)) CHECK(each == std::this_thread::get_id());
  CHECK(result_of(after_error) == std::this_thread::get_id());
  CHECK(loop.callers().size() == 1);
  CHECK_FALSE(loop.callers().contains(std::this_thread::get_id()));
}

TEST_CASE("with inline_executor coroutines go on on the I/O thread") {
  support::need_redis();
  const redis_server server;
  client redis{with_executor(server, inline_executor())};
  std::set<std::thread::id> places;
  for (int i = 0; i < 10; ++i) {
    for (const std::thread::id each : sync_wait(where_it_goes_on(redis, 5))) places.insert(each);
    places.insert(sync_wait(where_an_error_goes_on(redis)));
  }
  places.erase(std::this_thread::get_id());
  CHECK(places.size() == 1);
}

TEST_CASE("by default coroutines go on on at most two threads") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  std::set<std::thread::id> places;
  for (int round = 0; round < 5; ++round) {
    std::vector<task<std::vector<std::thread::id>>> all;
    for (int i = 0; i < 50; ++i) all.push_back(where_it_goes_on(redis, 5));
    for (const auto& one : sync_wait(when_all(std::move(all)))) places.insert(one.begin(), one.end());
  }
  places.erase(std::this_thread::get_id());
  CHECK_FALSE(places.empty());
  CHECK(places.size() <= 2);
}

// A task that ends on another thread while its waiter still starts it lets the waiter go on where it is.
TEST_CASE("neither a coroutine nor a callback goes on on the thread that made the call") {
  support::need_redis();
  const redis_server server;
  executor where;
  SECTION("by default") {}
  SECTION("with inline_executor") { where = inline_executor(); }
  client redis{with_executor(server, where)};
  int coroutines = 0;
  int callbacks = 0;
  for (int i = 0; i < 2000; ++i) {
    if (sync_wait(where_it_goes_on(redis, 1)).front() == std::this_thread::get_id()) ++coroutines;
    std::promise<std::thread::id> place;
    start(redis.async_execute("PING"), [&place](const std::exception_ptr&, const std::optional<reply>&) {
      place.set_value(std::this_thread::get_id());
    });
    if (place.get_future().get() == std::this_thread::get_id()) ++callbacks;
  }
  CHECK(coroutines == 0);
  CHECK(callbacks == 0);
}

TEST_CASE("by default coroutines that block do not hold up the I/O thread") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  const caller patient = redis.with({.timeout = 60s});
  support::gate open;
  std::atomic<int> holding = 0;
  auto first = started(held_up(patient, open, holding));
  auto second = started(held_up(patient, open, holding));
  const support::opens_at_end opener{open};
  REQUIRE(eventually([&] { return holding == 2; }));  // both threads of the pool
  auto third = started(patient.async_execute("SET", "k", "sent"));
  CHECK(eventually([&] {
    const reply found = patient.execute("GET", "k");
    return !found.is_nil() && found.str() == "sent";
  }));
  CHECK_FALSE(support::has_ended(third));
  open.open();
  CHECK(result_of(third).str() == "OK");
  CHECK(result_of(first));
  CHECK(result_of(second));
}

TEST_CASE("by default a coroutine may make blocking calls of the same client") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  CHECK(sync_wait(blocking_call_inside(redis)).str() == "v");
}

TEST_CASE("a callback gets the reply or the error once") {
  support::need_redis();
  const redis_server server;
  client redis{server.url()};
  std::atomic<int> calls = 0;
  std::promise<std::string> told;
  start(redis.async_execute("ECHO", "x"), [&](std::exception_ptr fault, std::optional<reply> value) {
    ++calls;
    told.set_value(!fault && value ? value->str() : "wrong");
  });
  CHECK(told.get_future().get() == "x");

  std::promise<bool> failed;
  start(redis.async_execute("NOSUCHCOMMAND"), [&](std::exception_ptr fault, std::optional<reply> value) {
    ++calls;
    try {
      if (fault) std::rethrow_exception(std::move(fault));
      failed.set_value(false);
    } catch (const server_error&) {
      failed.set_value(!value);
    }
  });
  CHECK(failed.get_future().get());
  sync_wait(redis.async_execute("PING"));
  CHECK(calls == 2);
}
