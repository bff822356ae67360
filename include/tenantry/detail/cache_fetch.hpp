#pragma once
// Drives the fetch machine on the caller's thread.

#include <tenantry/cache.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace tenantry {

template <class T, class Codec>
template <class Loader>
cached<T> cache<T, Codec>::fetch_with(const key& k, Loader&& loader) {
  using detail::cache_event;
  using detail::fetch_action;
  using detail::fetch_event;
  detail::load_scope::check(this, k.str());

  detail::fetch_machine machine;
  typename flights::boarding flight;
  std::shared_ptr<const T> value;
  std::shared_ptr<const error> failure;
  source from = source::redis;
  load_context context;
  std::optional<std::string> bytes;

  const auto read = [&] {
    try {
      value = decoded(store_.read(k));
    } catch (const error& fault) {
      failure = std::make_shared<const error>(fault);
      return fetch_event::failed;
    }
    store_.count(value ? cache_event::hit : cache_event::miss);
    return value ? fetch_event::hit : fetch_event::miss;
  };
  const auto join = [&] {
    flight = flights_.join(k.str());
    if (flight.leads) return fetch_event::leads;
    return flight.joined->begin_wait() ? fetch_event::follows : fetch_event::may_not_wait;
  };
  const auto load = [&] {
    store_.count(cache_event::load);
    try {
      const detail::load_scope scope{this, k.str()};
      value = std::make_shared<const T>(loader(k, context));
    } catch (...) {
      store_.count(cache_event::load_failure);
      throw;
    }
    from = source::computed;
    if (!machine.leads() || (context.chosen_ttl() && context.chosen_ttl()->count() <= 0)) {
      return fetch_event::loaded_unstorable;
    }
    bytes = encoded(k, *value, failure);
    return bytes ? fetch_event::loaded : fetch_event::loaded_unstorable;
  };
  const auto store = [&] {
    if (!flights_.begin_store(k.str(), flight.joined)) {
      store_.count(cache_event::fenced);
      return fetch_event::not_stored;
    }
    try {
      store_.write(k, *bytes, context.chosen_ttl().value_or(store_.options().ttl));
    } catch (const error& fault) {
      failure = std::make_shared<const error>(fault);
      return fetch_event::not_stored;
    }
    return fetch_event::stored;
  };

  try {
    for (fetch_action next = fetch_action::read;;) {
      switch (next) {
        case fetch_action::read:
          next = machine.on(read());
          break;
        case fetch_action::join:
          next = machine.on(join());
          break;
        case fetch_action::load:
          next = machine.on(load());
          break;
        case fetch_action::store:
          next = machine.on(store());
          break;
        case fetch_action::wait: {
          const detail::led_load::wait_ends waited;
          store_.count(cache_event::wait);
          return flight.joined->wait();
        }
        case fetch_action::answer: {
          cached<T> result{std::move(value), from, from == source::redis || machine.stored(), std::move(failure)};
          if (machine.leads()) flights_.land(k.str(), flight.joined, result, nullptr);
          return result;
        }
      }
    }
  } catch (...) {
    if (machine.leads()) flights_.land(k.str(), flight.joined, std::nullopt, std::current_exception());
    throw;
  }
}

}  // namespace tenantry
