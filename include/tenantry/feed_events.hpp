#pragma once
// What a subscription delivers.

#include <tenantry/detail/published.hpp>
#include <tenantry/error.hpp>
#include <tenantry/export.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace tenantry {

/// What somebody published.
template <class T>
struct message {
  T value;
  detail::published_ref source;

  /// As Redis names it; one of several where the subscription is to a pattern.
  [[nodiscard]] std::string_view channel() const noexcept { return source->channel; }
  /// The bytes that were published.
  [[nodiscard]] std::string_view payload() const noexcept { return source->payload; }
  /// When this process received it.
  [[nodiscard]] std::chrono::steady_clock::time_point received() const noexcept { return source->received; }
};

enum class gap_cause : unsigned char {
  connection_lost,      ///< the connection ended, or the server was silent for too long
  server_unsubscribed,  ///< the server ended this subscription by itself
  probe_failed,         ///< the server answered, but delivered nothing (`subscriber_options::probe`)
  // Of an event_log, which tells only of what it cannot read again:
  trimmed,     ///< events that the log does not keep any more
  reset,       ///< the log is another one: it was deleted, or its server lost the end of it. What there is follows
  too_far,     ///< more than `follow_options::max_replay`; the last ones follow
  invalid_id,  ///< the id to resume from is none. What is appended from now on follows
};

/// The subscription is back: what was published between `from` and `to` may be missing. What it was about has to be
/// read again.
///
/// Outages between which nothing is there to be taken are told as one, from the beginning of the first, with its cause,
/// to the end of the last. What came between them and was dropped is told by `lagged`.
struct gap {
  gap_cause cause = gap_cause::connection_lost;
  std::chrono::steady_clock::time_point from{};
  std::chrono::steady_clock::time_point to{};
  /// How many messages, where that is known.
  std::optional<std::uint64_t> lost = std::nullopt;
  /// Of an event_log: where it goes on, so that who resumes from here is not told of it again.
  std::string id = {};
};

/// So many messages were dropped here because the queue was full.
struct lagged {
  std::uint64_t dropped = 0;
};

enum class closed_cause : unsigned char {
  slow,     ///< the queue was full, and the subscription is `overflow::disconnect`
  refused,  ///< the server does not allow it, at first or no longer: `why`
  stopped,  ///< the subscriber ended, the client was closed, or this is the child of a fork: `why`
};

/// The last one: nothing follows.
struct closed {
  closed_cause cause = closed_cause::stopped;
  std::shared_ptr<const error> why = {};
};

TENANTRY_EXPORT std::string_view to_string(gap_cause cause) noexcept;
TENANTRY_EXPORT std::string_view to_string(closed_cause cause) noexcept;

template <class T>
using feed_event = std::variant<message<T>, gap, lagged, closed>;

}  // namespace tenantry
