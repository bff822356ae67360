#pragma once
// One algorithm for threads and coroutines, where speed is not all: a task that need not suspend.

#include "caching/cache_state.hpp"

#include <tenantry/client.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/task.hpp>

#include <utility>
#include <vector>

namespace tenantry::detail {

/// How a task talks to Redis. With `blocking` it never suspends: it runs on the thread that starts it.
enum class face : unsigned char { blocking, coroutine };

inline task<std::vector<reply>> send(cache_state& on, face how, const caller& by, std::vector<request> requests) {
  if (how == face::blocking) co_return on.send(by, requests);
  auto sent = on.async_send(by, requests);
  std::vector<reply> replies = co_await std::move(sent);
  co_return replies;
}

}  // namespace tenantry::detail
