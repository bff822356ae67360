// Coroutines: one command, several at once, a script, a callback, a stop, and where it all runs.
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <future>
#include <iostream>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

inline constexpr tenantry::key_schema<"visits:{tenant}:page:{page}"> visits;
const tenantry::script add{"return redis.call('INCRBY', KEYS[1], ARGV[1])"};

// The client and the key are the caller's, who awaits this before it lets them go.
tenantry::task<std::int64_t> count(const tenantry::client& redis, const tenantry::key& page) {
  const tenantry::reply counted = co_await redis.async_execute("INCR", page);
  co_return counted.integer();
}

tenantry::task<std::int64_t> count_all(const tenantry::client& redis, const std::vector<tenantry::key>& pages) {
  std::vector<tenantry::task<std::int64_t>> each;
  each.reserve(pages.size());
  for (const tenantry::key& page : pages) each.push_back(count(redis, page));
  const std::vector<std::int64_t> counted = co_await when_all(std::move(each));  // all under way at once
  std::int64_t sum = 0;
  for (const std::int64_t one : counted) sum += one;
  co_return sum;
}

tenantry::task<std::int64_t> reset_and_add(const tenantry::client& redis, const tenantry::key& page) {
  std::vector<tenantry::command> commands;
  commands.emplace_back("SET", page, 0);
  commands.emplace_back("INCR", page);
  const auto replies = co_await redis.async_execute_all(std::move(commands));  // one write

  std::vector<std::string> keys{page.str()};
  std::vector<std::string> arguments{"10"};
  const auto added = co_await redis.async_eval(add, std::move(keys), std::move(arguments));
  co_return added.integer() - replies[1].integer();
}

tenantry::task<bool> stopped(const tenantry::client& redis, const tenantry::key& page, std::stop_token stop) {
  const auto hurried = redis.with({.timeout = 50ms, .stop = std::move(stop)});  // a statement of its own
  try {
    co_await hurried.async_execute("GET", page);
  } catch (const tenantry::timeout_error& ended) {
    co_return ended.code() == tenantry::errc::cancelled&& ended.execution() == tenantry::execution::not_sent;
  }
  co_return false;
}

tenantry::task<std::int64_t> main_task(const tenantry::client& redis, const std::vector<tenantry::key>& pages,
                                       tenantry::executor own_threads) {
  const std::int64_t added = co_await reset_and_add(redis, pages[0]);  // 10
  const std::int64_t sum = co_await count_all(redis, pages);           // 12 + 1

  co_await tenantry::resume_on(std::move(own_threads));  // for what takes long

  std::stop_source stop;
  stop.request_stop();
  const bool ended = co_await stopped(redis, pages[0], stop.get_token());
  co_return ended ? added + sum : 0;
}

int main(int argc, char** argv) try {
  tenantry::thread_pool answers{1};
  tenantry::thread_pool long_work{2};
  auto options = tenantry::client_options::from_url(argc > 1 ? argv[1] : "redis://localhost:6379");
  options.executor = answers.get_executor();  // instead of two threads of the client's own
  options.timeout = 10s;
  tenantry::client redis{options};

  const tenantry::tenant_id acme{"acme"};
  const std::vector<tenantry::key> pages{visits(acme, "home"), visits(acme, "about")};
  redis.execute("DEL", pages[1]);
  const std::int64_t result = sync_wait(main_task(redis, pages, long_work.get_executor()));

  std::promise<tenantry::reply> answered;
  start(redis.async_execute("GET", pages[0]),
        [&](const std::exception_ptr& fault, std::optional<tenantry::reply> value) {
          if (fault) {
            answered.set_exception(fault);
          } else {
            answered.set_value(*std::move(value));
          }
        });
  std::cout << result << ", and " << answered.get_future().get().str() << '\n';  // 23, and 12
  return result == 23 ? 0 : 1;
} catch (const tenantry::error& failure) {
  std::cerr << to_string(failure.code()) << ": " << failure.what() << '\n';
  return 1;
}
