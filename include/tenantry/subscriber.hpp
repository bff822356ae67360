#pragma once
// Listens to channels, on connections of its own.

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/codec.hpp>
#include <tenantry/export.hpp>
#include <tenantry/metrics.hpp>
#include <tenantry/subscription.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

namespace tenantry {

/// A message to itself, from end to end: published as any other through the client, and due on the connection that
/// listens. It finds a server that answers but delivers nothing, as one that a failover has left behind.
struct probe_options {
  /// From one probe to the next. After a connection that failed, up to 16 times as long, until a probe comes back.
  std::chrono::milliseconds interval = std::chrono::seconds{30};
  /// How long a probe that Redis has accepted may take. Then the connection is opened again.
  std::chrono::milliseconds timeout = std::chrono::seconds{10};
};

struct subscriber_options {
  /// Tenants are spread over so many, because those of one connection share the server's output buffer.
  unsigned connections = 1;
  /// How long nothing may arrive before the server is asked for a sign of life, and how long that may take.
  std::chrono::milliseconds heartbeat = std::chrono::seconds{5};
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds{5};
  /// Costs a PUBLISH for each interval and connection, on a channel of its own. Nothing: no probes.
  std::optional<probe_options> probe = std::nullopt;
};

struct subscriber_counters {
  std::uint64_t connections = 0;    ///< that are there now
  std::uint64_t outages = 0;        ///< connections that ended
  std::uint64_t channels = 0;       ///< and patterns that somebody listens to now
  std::uint64_t subscriptions = 0;  ///< listeners now
  std::uint64_t messages = 0;       ///< from Redis
  std::uint64_t deliveries = 0;     ///< to queues of listeners
  std::uint64_t foreign = 0;        ///< messages of a pattern that it does not match, which nobody got
  /// From the moment in which this process received a message to that in which a listener took it, once for each
  /// listener. Every message is measured up to 100'000 deliveries a second and connection; of more, messages that are
  /// spread evenly over the time. Dropped ones are not in it.
  histogram time_in_queue = {};
};

namespace detail {
class consume_core;
class follow_core;
class subscriber_state;
}  // namespace detail

/// Any number of subscriptions on one connection: many to the same channel are one for Redis.
///
///     tenantry::subscriber sub{redis};
///     auto feed = sub.subscribe<alarm>(alarms(acme));
///
/// It connects again by itself, with the client's pauses, and subscribes to all that is wanted by then.
///
/// Not promised: see `subscription`. A server that runs but delivers nothing is noticed with `probe` only, and only
/// while the client can publish.
///
/// Keys:     channels as they are; publish/subscribe knows no databases. Probes: `tenantry#probe:<32 hex digits>`; a
///           user that may not publish or listen there is told to the observer, once for each connection, and not
///           probed.
/// Threads:  all members from any thread. Messages are taken from Redis and queued on the client's I/O thread, which
/// the
///           first subscription starts.
/// Forks:    in the child of a fork `subscribe` fails with `forked`, a subscription of the parent is `closed`, and
///           counters are zero. The parent misses nothing.
/// Lifetime: the client must outlive it. `close` of the client closes subscriptions that coroutines wait for; those of
/// threads
///           go on until the subscriber ends. Not to be destroyed on the I/O thread. Its subscriptions are closed with
///           it.
/// Source:   SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE (Redis 7.0).
class TENANTRY_EXPORT subscriber {
 public:
  /// Errors: invalid_option, naming the field.
  explicit subscriber(const client& redis, const subscriber_options& how = {});
  subscriber(const subscriber&) = delete;
  subscriber& operator=(const subscriber&) = delete;
  ~subscriber();

  /// When it returns, whatever is published from then on is delivered. Without a connection it waits for one.
  /// Errors: server_error (no_permission, ...) where the server refuses; timeout_error; connection_error (forked);
  ///   invalid_option, naming the field; std::system_error when no thread can be started.
  /// Cost: one round trip for the first of a channel, none for others.
  template <class T, codec_of<T> Codec = default_codec<T>>
  [[nodiscard]] subscription<T, Codec> subscribe(const channel& to, const subscription_options& how = {}) {
    return subscription<T, Codec>{listen(to, how)};
  }
  template <class T, codec_of<T> Codec = default_codec<T>>
  [[nodiscard]] task<subscription<T, Codec>> async_subscribe(channel to, subscription_options how = {}) {
    auto listening = async_listen(std::move(to), how);
    detail::feed_core core = co_await std::move(listening);
    co_return subscription<T, Codec>{std::move(core)};
  }

  /// All channels of a tenant that a schema renders: `alarms.all(acme)`. Costs the server a comparison for each message
  /// that anybody publishes.
  /// Errors: also invalid_option for `channel_scope::shard`, which has no patterns.
  template <class T, codec_of<T> Codec = default_codec<T>>
  [[nodiscard]] subscription<T, Codec> subscribe(const channel_pattern& to, const subscription_options& how = {}) {
    return subscription<T, Codec>{listen(to, how)};
  }
  template <class T, codec_of<T> Codec = default_codec<T>>
  [[nodiscard]] task<subscription<T, Codec>> async_subscribe(channel_pattern to, subscription_options how = {}) {
    auto listening = async_listen(std::move(to), how);
    detail::feed_core core = co_await std::move(listening);
    co_return subscription<T, Codec>{std::move(core)};
  }

  [[nodiscard]] subscriber_counters counters() const;

 private:
  friend class detail::consume_core;
  friend class detail::follow_core;
  detail::feed_core listen(const channel& to, const subscription_options& how);
  detail::feed_core listen(const channel_pattern& to, const subscription_options& how);
  task<detail::feed_core> async_listen(channel to, subscription_options how);
  task<detail::feed_core> async_listen(channel_pattern to, subscription_options how);

  std::shared_ptr<detail::subscriber_state> state_;
};

}  // namespace tenantry
