#pragma once
// What is done to one key without a loader: put, begin, invalidate, expire.

#include "caching/cache_state.hpp"
#include "caching/face.hpp"

#include <tenantry/detail/cache_core.hpp>
#include <tenantry/detail/load_ticket.hpp>
#include <tenantry/key.hpp>
#include <tenantry/task.hpp>
#include <tenantry/undelivered.hpp>

#include <chrono>

namespace tenantry::detail {

task<void> put(cache_state& on, face how, key k, any_value value);
task<bool> put(cache_state& on, face how, key k, any_value value, load_ticket ticket);
task<load_ticket> begin(cache_state& on, face how, key k);
task<delivery> invalidate(cache_state& on, face how, const key& k, std::chrono::milliseconds hold);
task<delivery> expire(cache_state& on, face how, const key& k);

}  // namespace tenantry::detail
