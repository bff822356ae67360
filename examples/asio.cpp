// Redis inside a Boost.Asio program: one thread, one io_context, and calls that are awaited there.
#include <tenantry/client.hpp>
#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/key_schema.hpp>
#include <tenantry/task.hpp>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;

inline constexpr tenantry::key_schema<"visits:{tenant}:page:{page}"> visits;

/// Starts a task and awaits its end. The coroutine goes on where it runs, with the task's value or its exception.
template <class T>
asio::awaitable<T> as_awaitable(tenantry::task<T> what) {
  return asio::async_initiate<const asio::use_awaitable_t<>, void(std::exception_ptr, T)>(
      [](auto handler, tenantry::task<T> started) {
        const auto where = asio::get_associated_executor(handler);
        auto on_done = [where, handler = std::move(handler)](std::exception_ptr fault, std::optional<T> value) mutable {
          auto go_on = [fault = std::move(fault), value = std::move(value), handler = std::move(handler)]() mutable {
            handler(std::move(fault), value ? *std::move(value) : T{});
          };
          asio::post(where, std::move(go_on));  // also when the task ended at once
        };
        tenantry::start(std::move(started), std::move(on_done));
      },
      asio::use_awaitable, std::move(what));
}

asio::awaitable<bool> serve(const tenantry::client& redis) {
  const tenantry::tenant_id acme{"acme"};
  const tenantry::key home = visits(acme, "home");
  const auto thread = std::this_thread::get_id();

  co_await as_awaitable(redis.async_execute("SET", home, 41));
  const tenantry::reply counted = co_await as_awaitable(redis.async_execute("INCR", home));
  std::cout << "visit " << counted.integer() << '\n';

  std::string refused;
  try {
    co_await as_awaitable(redis.async_execute("LPUSH", home, "x"));
  } catch (const tenantry::server_error& refusal) {
    refused = to_string(refusal.code());
  }
  co_return counted.integer() == 42 && refused == "wrong_type" && std::this_thread::get_id() == thread;
}

int main(int argc, char** argv) try {
  asio::io_context loop{1};  // before the client: its calls end by posting to the loop
  auto options = tenantry::client_options::from_url(argc > 1 ? argv[1] : "redis://localhost:6379");
  options.executor = tenantry::inline_executor();  // as_awaitable only posts, so no other thread is needed
  options.timeout = 10s;
  const tenantry::client redis{options};

  bool right = false;
  asio::co_spawn(loop, serve(redis), [&right](const std::exception_ptr& fault, bool result) {
    if (fault) std::rethrow_exception(fault);  // out of run()
    right = result;
  });
  loop.run();
  return right ? 0 : 1;
} catch (const std::exception& failure) {
  std::cerr << failure.what() << '\n';
  return 1;
}
