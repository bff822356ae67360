#include "engine/connector.hpp"

#include "engine/failures.hpp"
#include "engine/own_thread.hpp"
#include "engine/terms.hpp"

#include <array>
#include <exception>
#include <system_error>
#include <utility>

namespace tenantry::detail {

namespace {

connect_result failed(const std::exception& fault) {
  connect_result result;
  result.failed = failure{.code = errc::unreachable, .what = execution::not_sent, .detail = fault.what()};
  return result;
}

}  // namespace

connector::~connector() {
  give_up();
  if (attempt_.joinable()) attempt_.join();
}

void connector::start(net::clock::time_point now, const std::function<void()>& done) {
  if (attempt_.joinable()) attempt_.join();  // it has put its result
  const auto deadline = after(now, options_.connect_timeout);
  try {
    attempt_ = start_thread([this, deadline, done] {
      const std::array wakeups{giving_up_.fd()};
      connect_result result;
      try {
        result = connect(options_, names_, deadline, wakeups);
      } catch (const std::exception& fault) {  // out of descriptors, threads or memory
        result = failed(fault);
      }
      if (result.how == net::ready::deadline)
        result.failed = not_connected_within(options_.connect_timeout, result.waited_for);
      put(std::move(result));
      done();
    });
  } catch (const std::system_error& fault) {
    put(failed(fault));
    done();
  }
}

void connector::put(connect_result result) {
  const std::lock_guard lock{mutex_};
  result_ = std::move(result);
}

std::optional<connect_result> connector::take() {
  const std::lock_guard lock{mutex_};
  return std::exchange(result_, std::nullopt);
}

}  // namespace tenantry::detail
