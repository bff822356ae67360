#pragma once
// The part of a cache that does not depend on the type of its values: reading, writing, counting.

#include <tenantry/cache_options.hpp>
#include <tenantry/client.hpp>
#include <tenantry/export.hpp>
#include <tenantry/key.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace tenantry::detail {

enum class cache_event : unsigned char {
  hit,
  miss,
  undecodable,
  wrong_type,
  read_failure,
  load,
  load_failure,
  wait,
  store,
  store_failure,
  encode_failure,
  fenced,
  count
};

class TENANTRY_EXPORT cache_store {
 public:
  /// Errors: invalid_option, naming the field.
  cache_store(const client& redis, const cache_options& options);

  /// The bytes of a key; nothing when there are none, or when the key holds another type (counted).
  /// Errors: as caller::execute (counted).
  std::optional<std::string> read(const key& k);
  /// Stores bytes for `ttl` with jitter. Errors: as caller::execute (counted).
  void write(const key& k, const std::string& bytes, std::chrono::milliseconds ttl);
  void remove(const key& k);

  void count(cache_event what) noexcept {
    counters_[static_cast<std::size_t>(what)].fetch_add(1, std::memory_order_relaxed);
  }
  [[nodiscard]] cache_stats stats() const noexcept;
  [[nodiscard]] const cache_options& options() const noexcept { return options_; }

 private:
  caller redis_;
  cache_options options_;
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(cache_event::count)> counters_{};
};

}  // namespace tenantry::detail
