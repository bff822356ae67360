#pragma once
// A task of Tenantry as an operation of Asio.

#include <tenantry/task.hpp>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <exception>
#include <optional>
#include <utility>

namespace gateway {

/// Starts a task; the coroutine goes on where Asio runs it, with the task's value or its exception.
template <class T>
boost::asio::awaitable<T> as_awaitable(tenantry::task<T> what) {
  namespace asio = boost::asio;
  std::optional<T> value =
      co_await asio::async_initiate<const asio::use_awaitable_t<>, void(std::exception_ptr, std::optional<T>)>(
          [](auto on_end, tenantry::task<T> started) {
            const auto where = asio::get_associated_executor(on_end);
            auto done = [where, on_end = std::move(on_end)](std::exception_ptr fault, std::optional<T> result) mutable {
              auto go_on = [fault = std::move(fault), result = std::move(result),
                            on_end = std::move(on_end)]() mutable { on_end(std::move(fault), std::move(result)); };
              asio::post(where, std::move(go_on));  // also when the task ended at once
            };
            tenantry::start(std::move(started), std::move(done));
          },
          asio::use_awaitable, std::move(what));
  co_return std::move(*value);
}

}  // namespace gateway
