#pragma once
// What stands around a value's bytes in Redis.

#include "caching/stamp.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// A tag of a value and its stamp at the end of the load.
struct stamped_tag {
  std::string name;
  tag_stamp stamp;

  friend bool operator==(const stamped_tag&, const stamped_tag&) = default;
};

/// The first line of a cached value, all numbers decimal:
///
///     tn1 <stamp> <stale> <ttl> <computed at> <took> <version> <key> <v|a> <size>[ <tag>=<stamp>]...\n<payload>
///     tn1 i8Zk....  3600000 300000 1790000000000000 1250 0 5c1f0e6b2a90d417 v 512
///
/// The life that Redis gives the key is ttl and stale together: a value is fresh while more than `stale` of it is left.
/// That needs no clock. `version` is the application's, `key` a hash of the key's name, tag names stand as in keys.
struct envelope_header {
  tenant_stamp stamp;
  std::chrono::milliseconds stale{0};
  std::chrono::milliseconds ttl{0};
  std::chrono::microseconds computed_at{0};  // since 1970, by the server's clock
  std::chrono::microseconds took{0};         // to load
  std::uint32_t version = 0;
  bool absent = false;
  std::vector<stamped_tag> tags = {};
};

/// How a value is told from one of a format that came before or will come.
inline constexpr std::string_view envelope_mark = "tn1 ";

/// A value as it goes to Redis.
std::string seal(const envelope_header& header, std::string_view key, std::string_view payload);

struct opened_envelope {
  envelope_header header;
  std::string_view first_line;  // without its end
  std::string_view payload;
};

/// What is in `bytes`, which has to live as long. Nothing when it is no envelope of this format, is not whole, or was
/// sealed for another key.
std::optional<opened_envelope> open_envelope(std::string_view bytes, std::string_view key);

}  // namespace tenantry::detail
