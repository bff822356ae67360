#include "caching/cache_state.hpp"
#include "caching/fetch_run.hpp"
#include "caching/key_writes.hpp"
#include "engine/seam.hpp"

#include <tenantry/detail/cache_core.hpp>
#include <tenantry/detail/load_scope.hpp>
#include <tenantry/error.hpp>

#include <utility>

namespace tenantry::detail {

namespace {

void check(const cache_state* on, const key& k, const load_chain* inside) {
  for (; inside != nullptr; inside = inside->outer.get()) {
    if (inside->cache == on && inside->key == k.str()) {
      throw error{errc::recursive_load, execution::not_sent,
                  k.str() + ": the loader of this key fetches the key itself"};
    }
  }
}

/// Inside of these loads, if there are any.
std::unique_ptr<fetch_session> session_of(cache_state& on, key k, fetcher who,
                                          std::shared_ptr<const load_chain> inside) {
  seam::check_not_forked(on.redis());
  check(&on, k, inside.get());
  if (!inside) who = fetcher::outside;
  auto session = std::make_unique<fetch_session>(on, std::move(k), who, std::move(inside));
  session->begin();
  return session;
}

fetch_group::sessions sessions_of(cache_state& on, std::span<const key> keys, fetcher who) {
  fetch_group::sessions all;
  all.reserve(keys.size());
  for (const key& each : keys) all.push_back(session_of(on, each, who, load_scope::innermost()));
  return all;
}

}  // namespace

cache_core::cache_core(const client& redis, const cache_options& options, value_codec codec)
    : state_{std::make_unique<cache_state>(redis, options, std::move(codec))}, near_{state_->near()} {}

cache_core::~cache_core() {
  if (seam::forked(state_->redis())) leave_to_parent(std::move(state_));
}

cache_stats cache_core::stats() const noexcept { return state_->stats(); }

near_stats cache_core::near_stats() const {
  return near_ == nullptr || seam::forked(state_->redis()) ? tenantry::near_stats{} : near_->stats();
}

/// In the child of a fork there is nothing: its epoch is another one.
near_hit cache_core::look_near(const key& k) const {
  if (load_scope::active()) check(state_.get(), k, load_scope::innermost().get());
  return near_->find(k);
}

near_hit cache_core::find_near(const key& k, const load_chain* inside) const {
  if (near_ == nullptr) return {};
  check(state_.get(), k, inside);
  return look_near(k);
}

bool cache_core::close(std::chrono::milliseconds patience) {
  if (seam::forked(state_->redis())) return true;  // the loads are the parent's
  const auto now = std::chrono::steady_clock::now();
  const auto most =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::time_point::max() - now);
  return state_->background().close(patience < most ? std::optional{now + patience} : std::nullopt);
}

fetched cache_core::fetch(const key& k, const any_loader& here,
                          const std::shared_ptr<const any_async_loader>& anywhere) {
  auto session = session_of(*state_, k, fetcher::thread_inside, load_scope::innermost());
  run(*state_, session, {here, anywhere});
  return session->end();
}

task<fetched> cache_core::async_fetch(key k, std::shared_ptr<const any_async_loader> load,
                                      std::shared_ptr<const load_chain> inside) {
  if (!inside) inside = load_scope::innermost();
  auto session = session_of(*state_, std::move(k), fetcher::coroutine_inside, std::move(inside));
  auto running = async_run(*state_, session, std::move(load));
  co_await std::move(running);
  co_return session->end();
}

std::vector<fetched> cache_core::fetch_many(std::span<const key> keys, const any_loader& here,
                                            const std::shared_ptr<const any_async_loader>& anywhere,
                                            const any_batch_loader& load_all) {
  fetch_group group{*state_, sessions_of(*state_, keys, fetcher::thread_inside)};
  group.run({here, anywhere}, load_all);
  return group.end();
}

task<std::vector<fetched>> cache_core::async_fetch_many(std::vector<key> keys,
                                                        std::shared_ptr<const any_async_loader> load,
                                                        any_batch_loader load_all) {
  fetch_group group{*state_, sessions_of(*state_, keys, fetcher::coroutine_inside)};
  auto running = group.async_run(std::move(load), load_all);
  co_await std::move(running);
  co_return group.end();
}

looked_up cache_core::get(const key& k) { return sync_wait(look_only(*state_, face::blocking, k)); }
task<looked_up> cache_core::async_get(key k) { return look_only(*state_, face::coroutine, std::move(k)); }

void cache_core::put(const key& k, any_value value) {
  sync_wait(detail::put(*state_, face::blocking, k, std::move(value)));
}
task<void> cache_core::async_put(key k, any_value value) {
  return detail::put(*state_, face::coroutine, std::move(k), std::move(value));
}

load_ticket cache_core::begin(const key& k) { return sync_wait(detail::begin(*state_, face::blocking, k)); }
task<load_ticket> cache_core::async_begin(key k) { return detail::begin(*state_, face::coroutine, std::move(k)); }

bool cache_core::put(const key& k, any_value value, const load_ticket& ticket) {
  return sync_wait(detail::put(*state_, face::blocking, k, std::move(value), ticket));
}
task<bool> cache_core::async_put(key k, any_value value, load_ticket ticket) {
  return detail::put(*state_, face::coroutine, std::move(k), std::move(value), std::move(ticket));
}

delivery cache_core::invalidate(const key& k, std::chrono::milliseconds hold) {
  return sync_wait(detail::invalidate(*state_, face::blocking, k, hold));
}
task<delivery> cache_core::async_invalidate(const key& k, std::chrono::milliseconds hold) {
  return detail::invalidate(*state_, face::coroutine, k, hold);
}

delivery cache_core::expire(const key& k) { return sync_wait(detail::expire(*state_, face::blocking, k)); }
task<delivery> cache_core::async_expire(const key& k) { return detail::expire(*state_, face::coroutine, k); }

}  // namespace tenantry::detail
