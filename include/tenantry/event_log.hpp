#pragma once
// Events that can be read again: a log of each tenant, in Redis, and those who follow it.

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/codec.hpp>
#include <tenantry/consumer.hpp>
#include <tenantry/detail/event_iterator.hpp>
#include <tenantry/detail/log_core.hpp>
#include <tenantry/feed_events.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tenantry {

/// An event of a log.
template <class T>
struct logged {
  T value;
  std::shared_ptr<const detail::logged_payload> source;

  /// `<epoch>-<offset>-<tag>`: to resume after it. Safe as the id of a server-sent event.
  [[nodiscard]] std::string_view id() const noexcept { return detail::id_of(*source); }
  /// The bytes that were appended.
  [[nodiscard]] std::string_view payload() const noexcept { return detail::bytes_of(*source); }
};

template <class T>
using log_event = std::variant<logged<T>, gap, closed>;

/// Follows a log: what was appended since, then what is appended. See `event_log`.
///
/// What the codec cannot decode is told to the observer and left out.
/// Errors:   while Redis does not answer it waits; where Redis refuses, the last event is `closed`.
/// Threads:  one at a time, but for `stop`.
/// Lifetime: the client and the log's codec must outlive it; it is closed when its subscriber ends.
template <class T, codec_of<T> Codec = default_codec<T>>
class follower {
 public:
  explicit follower(detail::follow_core core) noexcept : core_{std::move(core)} {}

  /// Waits for the next event. Nothing after `closed`, after `stop`, and when the token was triggered.
  std::optional<log_event<T>> next(const std::stop_token& stop = {}) { return take(no_limit, stop); }
  std::optional<log_event<T>> next_for(std::chrono::milliseconds at_most, const std::stop_token& stop = {}) {
    return take(until(at_most), stop);
  }
  [[nodiscard]] task<std::optional<log_event<T>>> async_next(std::stop_token stop = {}) {
    return async_take(no_limit, std::move(stop));
  }
  [[nodiscard]] task<std::optional<log_event<T>>> async_next_for(std::chrono::milliseconds at_most,
                                                                 std::stop_token stop = {}) {
    return async_take(until(at_most), std::move(stop));
  }
  [[nodiscard]] follower_counters counters() const noexcept { return core_.counters(); }
  /// Ends it, from any thread.
  void stop() noexcept { core_.stop(); }

  using iterator = detail::event_iterator<follower, log_event<T>>;
  iterator begin() { return iterator{*this}; }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr time_point no_limit = time_point::max();
  static time_point until(std::chrono::milliseconds at_most) noexcept {
    const time_point now = std::chrono::steady_clock::now();
    return at_most < no_limit - now ? now + at_most : no_limit;
  }

  std::optional<log_event<T>> take(time_point limit, const std::stop_token& stop) {
    while (auto item = core_.next(limit, stop)) {
      if (auto event = read(std::move(*item))) return event;
    }
    return std::nullopt;
  }
  task<std::optional<log_event<T>>> async_take(time_point limit, std::stop_token stop) {
    for (;;) {
      auto waiting = core_.async_next(limit, stop);
      std::optional<detail::followed_item> item = co_await std::move(waiting);
      if (!item) co_return std::nullopt;
      if (auto event = read(std::move(*item))) co_return std::move(event);
    }
  }
  std::optional<log_event<T>> read(detail::followed_item item) {
    if (auto* const missed = std::get_if<gap>(&item)) return log_event<T>{std::move(*missed)};
    if (auto* const end = std::get_if<closed>(&item)) return log_event<T>{std::move(*end)};
    auto& came = std::get<std::shared_ptr<const detail::logged_payload>>(item);
    const std::string_view bytes = detail::bytes_of(*came);
    try {
      T value = Codec{}.decode(bytes);
      return log_event<T>{logged<T>{.value = std::move(value), .source = std::move(came)}};
    } catch (const std::exception& why) {
      core_.undecodable(bytes.size(), why.what());
    } catch (...) {
      core_.undecodable(bytes.size(), "an exception that is none of the standard library");
    }
    return std::nullopt;
  }

  detail::follow_core core_;
};

/// A log of events for each tenant, that keeps the last of them.
///
///     tenantry::event_log<alarm> log{redis, alarms, {.keep = 10'000}};
///     log.append(acme, a);
///     auto feed = log.follow(sub, acme, last_event_id);   // replay, then live
///     for (auto& event : feed) std::visit(..., event);    // logged<alarm> | gap | closed
///
/// Promised to a follower: each event that the log has is delivered once and in order, those before and those after it
/// began to follow, whatever connections are lost meanwhile. What the log cannot give any more is one `gap`, with the
/// number lost where that is known.
///
/// Not promised: that Redis keeps what it acknowledged (see its persistence and replication). A server that lost the
/// end of a log is noticed by the tags of ids, and is a `gap` (reset).
///
/// Keys:     `log:{acme}:alarms`, a stream, and `log:{acme}:alarms#meta`, a hash; `log:{acme}:alarms#once:<key>` for
///           idempotency keys; `log:{acme}:alarms#dead:<group>` for dead letters. Channels: `log:{acme}:alarms`, and by
///           default the channel itself with the plain event.
/// Errors:   of `append`: as `caller`; invalid_option for an event that is too large; what the codec throws.
/// Cost:     append: one round trip, atomic. A follower reads the log when it begins and where something may be
///           missing; followers of one object that ask the same share a read. A replayed event holds its page, of 256
///           events at most.
/// Threads:  safe on one object from many threads.
/// Lifetime: the client must outlive it, and its followers.
/// Source:   XADD, XRANGE, PUBLISH (Redis 7.0).
template <class T, codec_of<T> Codec = default_codec<T>>
class event_log {
 public:
  /// Errors: invalid_option, naming the field.
  template <fixed_string Text>
  event_log(const client& redis, const channel_schema<Text>&, const event_log_options& how = {})
      : core_{redis,
              [](const tenant_id& tenant) {
                static_assert(
                    channel_schema<Text>::info.arguments() == 0,
                    "tenantry: a log has one channel for each tenant: its schema has no placeholder but {tenant}");
                if constexpr (channel_schema<Text>::info.arguments() == 0) {
                  return channel_schema<Text>{}(tenant);
                }
              },
              how} {}

  /// Returns the event's id. An event whose reply was lost may have been appended: it is not sent again.
  std::string append(const tenant_id& tenant, const T& event) const { return append_once(tenant, event, {}); }
  /// Appends nothing where an event with this key was appended before, and returns the id of that one. So who got no
  /// answer can try again.
  std::string append_once(const tenant_id& tenant, const T& event, std::string_view key) const {
    return core_.append(tenant, Codec{}.encode(event), key);
  }
  [[nodiscard]] task<std::string> async_append(const tenant_id& tenant, const T& event) const {
    return core_.async_append(tenant, Codec{}.encode(event), {});
  }
  [[nodiscard]] task<std::string> async_append_once(const tenant_id& tenant, const T& event,
                                                    const std::string& key) const {
    return core_.async_append(tenant, Codec{}.encode(event), key);
  }

  /// What was appended after the event of this id, which may be any text of a client. Nothing: from now on.
  /// Errors: as `subscriber::subscribe`.
  [[nodiscard]] follower<T, Codec> follow(subscriber& by, const tenant_id& tenant,
                                          std::optional<std::string_view> last_id = std::nullopt,
                                          const follow_options& how = {}) const {
    return follower<T, Codec>{detail::follow_core::begin(core_.state(), by, tenant, last_id, how)};
  }
  [[nodiscard]] task<follower<T, Codec>> async_follow(subscriber& by, tenant_id tenant,
                                                      std::optional<std::string> last_id = std::nullopt,
                                                      follow_options how = {}) const {
    auto beginning = detail::follow_core::async_begin(core_.state(), by, tenant, std::move(last_id), how);
    detail::follow_core core = co_await std::move(beginning);
    co_return follower<T, Codec>{std::move(core)};
  }

  /// A consumer of this group, which is made when the first one of it runs: `handle(const work<T>&)` is called with the
  /// events that it is handed, and may be a coroutine (`task<void>`). The subscriber wakes it up.
  /// Errors: invalid_option, naming the field.
  template <class Handler>
  [[nodiscard]] consumer<T, Codec> consume(subscriber& by, const tenant_id& tenant, std::string_view group,
                                           Handler handle, const consume_options& how = {}) const {
    return consumer<T, Codec>{detail::consume_core{core_.state(), by, tenant, group, how}, std::move(handle)};
  }
  /// What no consumer of the group could handle, the oldest first. Cost: one round trip.
  [[nodiscard]] std::vector<dead_letter> dead_letters(const tenant_id& tenant, std::string_view group,
                                                      std::size_t at_most = 100) const {
    return core_.dead_letters(tenant, group, at_most);
  }
  /// Removes one of them, once it has been dealt with. False where it was not there any more.
  bool remove_dead_letter(const tenant_id& tenant, std::string_view group, const dead_letter& which) const {
    return core_.remove_dead_letter(tenant, group, which.place);
  }

 private:
  detail::log_core core_;
};

}  // namespace tenantry
