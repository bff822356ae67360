#pragma once
// Publishes messages on channels.

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/codec.hpp>
#include <tenantry/export.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenantry {

namespace detail {
template <class T>
concept no_text = !std::convertible_to<const T&, std::string_view>;
}

struct publisher_options {
  /// Bytes of a payload. A larger one could make Redis disconnect subscribers whose output buffer it fills.
  std::size_t max_payload = 64U << 10U;
  /// Instead of `client_options::timeout`.
  std::chrono::milliseconds timeout = std::chrono::seconds{1};
  /// Where all that it publishes is known: it reaches subscriptions of the same scope only.
  channel_scope scope = channel_scope::global;
};

/// A message that is to be published with others.
struct outgoing {
  channel to;
  std::string payload;
};

/// Publishes through the client's shared connection. What may have been published is never sent again.
///
///     tenantry::publisher pub{redis};
///     pub.publish(alarms(acme), alarm{...});
///
/// Not promised: that anybody gets it. The number that is returned counts connections of this server that were
/// subscribed, some of which may be about to end.
///
/// Errors:   as `caller`; invalid_option for a payload that is too large; what the codec throws.
/// Cost:     one round trip.
/// Threads:  safe on one object from many threads.
/// Lifetime: the client must outlive it and its tasks.
/// Source:   PUBLISH, SPUBLISH (Redis 7.0).
class TENANTRY_EXPORT publisher {
 public:
  /// Errors: invalid_option, naming the field.
  explicit publisher(const client& redis, const publisher_options& how = {});

  /// The bytes as they are. Returns the number of connections that Redis sent it to.
  std::uint64_t publish(const channel& to, std::string_view payload) const;
  [[nodiscard]] task<std::uint64_t> async_publish(const channel& to, std::string_view payload) const;

  /// Through the codec.
  template <detail::no_text T, codec_of<T> Codec = default_codec<T>>
  std::uint64_t publish(const channel& to, const T& value) const {
    return publish(to, std::string_view{Codec{}.encode(value)});
  }
  template <detail::no_text T, codec_of<T> Codec = default_codec<T>>
  [[nodiscard]] task<std::uint64_t> async_publish(const channel& to, const T& value) const {
    return async_publish(to, std::string_view{Codec{}.encode(value)});
  }

  /// All of them in order, in one round trip. Nothing is published where one is too large. Returns a number for each.
  /// Errors: also server_error where Redis refused one; the others were published.
  std::vector<std::uint64_t> publish_all(std::span<const outgoing> messages) const;

 private:
  [[nodiscard]] command made(const channel& to, std::string_view payload) const;

  const client* redis_;
  publisher_options how_;
};

}  // namespace tenantry
