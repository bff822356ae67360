#pragma once
// What a client tells about itself. The library writes no log of its own.

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <variant>

namespace tenantry {

using event_value = std::variant<std::int64_t, double, std::string_view>;

struct event_field {
  std::string_view name;
  event_value value;
};

/// Something that happened. Valid only during the call of the observer.
struct event {
  std::string_view name;
  std::span<const event_field> fields;

  /// The value of a field, or nullptr.
  [[nodiscard]] const event_value* find(std::string_view field) const noexcept {
    for (const event_field& each : fields) {
      if (each.name == field) return &each.value;
    }
    return nullptr;
  }
};

/// Is told every event of a client.
///
///     .observer = [](const tenantry::event& what) { log.info(what.name); }
///
/// Never holds values, keys' names or credentials; `detail` is a sentence of the library, of the server or, for
/// load_failed, of the loader.
/// Errors: what it throws is ignored, so that a failing log changes no call.
/// Threads: called on whatever thread noticed, without locks held, and on several at once. It must not block: a call,
/// or
///   the I/O thread with all calls, waits for it.
/// Lifetime: is not called any more when the client's destructor has returned.
using observer = std::function<void(const event&)>;

/// The names of the events. Fields are text unless they are said to be a number; more may come in later versions.
namespace events {

/// A connection is ready for commands. Fields: endpoint, lane.
inline constexpr std::string_view connected = "connected";
/// A connection ended that was ready. Fields: endpoint, lane, code, detail; unanswered: integer, calls that end
/// unknown.
inline constexpr std::string_view connection_lost = "connection_lost";
/// An attempt to connect failed. Fields: endpoint, lane, code, detail; retry_ms: integer, until the next one.
inline constexpr std::string_view connect_failed = "connect_failed";
/// Commands were written and nothing came back for too long; connection_lost follows. Fields: endpoint, lane;
/// milliseconds: integer, how long.
inline constexpr std::string_view lane_stalled = "lane_stalled";
/// The breaker opened. Fields: endpoint; code, of the last failure.
inline constexpr std::string_view breaker_opened = "breaker_opened";
/// The breaker closed: the server answers again. Fields: endpoint.
inline constexpr std::string_view breaker_closed = "breaker_closed";
/// Calls were refused because a bound was reached. At most once per second. Fields: endpoint; refused: integer, since
/// the last such event.
inline constexpr std::string_view overloaded = "overloaded";
/// A push connection is ready. Fields: endpoint; lane, "push".
inline constexpr std::string_view push_connected = "push_connected";
/// A push connection ended; what it would have brought is missed until it is back. Fields: endpoint, lane, code,
/// detail.
inline constexpr std::string_view push_lost = "push_lost";

/// A loader threw. Fields: tenant; background: integer, 1 where no caller waits for it in any case; detail, what the
/// exception says.
inline constexpr std::string_view load_failed = "load_failed";
/// A loaded value was not stored, because it was invalidated meanwhile or its lease was lost. Fields: tenant;
/// milliseconds: integer, how long the load took.
inline constexpr std::string_view load_fenced = "load_fenced";
/// A fetch was answered with a stale copy. Fields: tenant.
inline constexpr std::string_view stale_served = "stale_served";
/// A load took longer than cache_options::hard_timeout, and goes on. Fields: tenant.
inline constexpr std::string_view load_timeout = "load_timeout";
/// Redis could not be told of an invalidation, which is queued. Fields: tenant; code; waiting: integer, how many are.
inline constexpr std::string_view invalidation_queued = "invalidation_queued";
/// Queued invalidations are in Redis. Fields: count: integer.
inline constexpr std::string_view invalidations_delivered = "invalidations_delivered";
/// The server refused queued invalidations for good. Fields: count: integer; code, detail of the last.
inline constexpr std::string_view invalidations_dropped = "invalidations_dropped";
/// The server does not let near caches track keys: they keep nothing, and fetches go to Redis. Once for each client.
/// Fields: detail, what the server says.
inline constexpr std::string_view near_refused = "near_refused";

/// Somebody listens to a channel or pattern, and its server has confirmed it. Fields: tenant; channel.
inline constexpr std::string_view subscribed = "subscribed";
/// A subscription ended. Fields: tenant; channel.
inline constexpr std::string_view unsubscribed = "unsubscribed";
/// A channel or pattern is subscribed again; what was published meanwhile may be missing. Fields: tenant; channel;
/// cause; milliseconds: integer, how long; listeners: integer, how many are told.
inline constexpr std::string_view gap = "gap";
/// A subscriber's connection is not probed, because the server refuses it. Fields: channel, of the probes; detail, what
/// the server says.
inline constexpr std::string_view probe_refused = "probe_refused";
/// Messages were dropped because a listener's queue was full. At most once per second. Fields: tenant; channel, of the
/// last; dropped: integer, how many since the last such event.
inline constexpr std::string_view lagged = "lagged";
/// A message could not be decoded, and was left out. At most once per second for each subscription. Fields: channel;
/// bytes: integer, of the payload; detail, what the codec says.
inline constexpr std::string_view decode_error = "decode_error";
/// A message was published. Fields: tenant; channel; bytes: integer, of the payload; receivers: integer.
inline constexpr std::string_view published = "published";

/// The handler of a consumer threw; the event is handed out again. Fields: tenant; group; attempt: integer; detail,
/// what the exception says.
inline constexpr std::string_view work_failed = "work_failed";
/// Events became dead letters: one, of which this was the last `attempt` (integer), or a `count` (integer) of those
/// that others were given. Fields: tenant; group; one of the two; detail, why.
inline constexpr std::string_view dead_letter = "dead_letter";
/// Events were not kept by their log until a consumer of the group was done with them. Fields: tenant; group; count:
/// integer; detail.
inline constexpr std::string_view work_lost = "work_lost";

}  // namespace events

}  // namespace tenantry
