#include "caching/cache_state.hpp"
#include "caching/fetch_session.hpp"

#include <tenantry/detail/cache_core.hpp>
#include <tenantry/detail/load_scope.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace tenantry::detail {

cache_core::cache_core(const client& redis, const cache_options& options, value_codec codec)
    : state_{std::make_unique<cache_state>(redis, options, std::move(codec))} {}

cache_core::~cache_core() = default;

cache_stats cache_core::stats() const noexcept { return state_->stats(); }

fetched cache_core::fetch(const key& k, const any_loader& load) {
  load_scope::check(state_.get(), k.str());
  fetch_session session{*state_, k, !load_scope::active()};
  session.step = session.machine.begin();
  while (!session.over()) session.take_step(load);
  return session.end();
}

std::vector<fetched> cache_core::fetch_many(std::span<const key> keys, const any_loader& load,
                                            const any_batch_loader& load_all) {
  for (const key& each : keys) load_scope::check(state_.get(), each.str());
  fetch_group group{*state_, keys};
  group.run(load, load_all);
  return group.end();
}

task<fetched> cache_core::async_fetch(key k, std::shared_ptr<const any_async_loader> load) {
  fetch_session session{*state_, k, true};
  session.step = session.machine.begin();
  while (!session.over()) {
    auto one = session.async_take_step(*load);
    co_await std::move(one);
  }
  co_return session.end();
}

looked_up cache_core::get(const key& k) {
  fetch_session session{*state_, k, false};
  return session.look_only();
}

void cache_core::put(const key& k, const any_value& value) { state_->put(k, value); }

void cache_core::invalidate(const key& k, std::chrono::milliseconds hold) { state_->invalidate(k, hold); }

void cache_core::expire(const key& k) { state_->expire(k); }

load_ticket cache_core::begin(const key& k) { return state_->begin(k); }

bool cache_core::put(const key& k, const any_value& value, const load_ticket& ticket) {
  return state_->put(k, value, ticket);
}

}  // namespace tenantry::detail
