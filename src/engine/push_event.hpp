#pragma once
// What a push connection tells its owner.

#include "engine/exchange.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tenantry::detail {

/// The three families of names that can be subscribed to; the same text may be one of each.
enum class push_kind : unsigned char { channel, pattern, shard };

/// Where a server announces changed keys to a connection that is the redirect target of CLIENT TRACKING.
inline constexpr std::string_view invalidation_channel = "__redis__:invalidate";

// Each event carries the generation of the connection that it belongs to.
namespace push {

/// A message of a wanted name. `pattern` is empty, unless the kind is pattern.
struct message {
  std::uint64_t generation = 0;
  push_kind kind = push_kind::channel;
  std::string channel;
  std::string pattern;
  std::string payload;
};

/// Keys that changed; without `keys`, all of them (FLUSHALL, FLUSHDB).
struct invalidated {
  std::uint64_t generation = 0;
  std::optional<std::vector<std::string>> keys;
};

/// From here on the messages of this name arrive, until it is lost, unwanted, or the connection ends.
struct confirmed {
  std::uint64_t generation = 0;
  push_kind kind = push_kind::channel;
  std::string name;
};

/// The server refused this name, in these words. It is not tried again on this connection.
struct refused {
  std::uint64_t generation = 0;
  push_kind kind = push_kind::channel;
  std::string name;
  std::string text;
};

/// The server ended this subscription by itself; it is being asked for again, and `confirmed` or `refused` follows.
struct lost {
  std::uint64_t generation = 0;
  push_kind kind = push_kind::channel;
  std::string name;
};

/// Everything that was wanted when the connection began is now confirmed, refused, or no longer wanted.
struct in_sync {
  std::uint64_t generation = 0;
};

/// The server is silent for too long: the connection has to be ended.
struct dead {
  std::uint64_t generation = 0;
  std::string cause;
};

/// The connection is gone, and every subscription with it.
struct ended {
  std::uint64_t generation = 0;
  failure why;
};

}  // namespace push

using push_event = std::variant<push::message, push::invalidated, push::confirmed, push::refused, push::lost,
                                push::in_sync, push::dead, push::ended>;

}  // namespace tenantry::detail
