#pragma once
// The part of a cache that does not depend on the type of its values.

#include <tenantry/cache_options.hpp>
#include <tenantry/client.hpp>
#include <tenantry/detail/fetched.hpp>
#include <tenantry/detail/load_ticket.hpp>
#include <tenantry/export.hpp>
#include <tenantry/key.hpp>
#include <tenantry/load_context.hpp>
#include <tenantry/task.hpp>
#include <tenantry/undelivered.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// A value without its type; nothing where it is absent.
using any_value = std::shared_ptr<const void>;

/// How values become bytes and back. `decode` returns nothing where it cannot; `encode` throws.
struct value_codec {
  std::function<any_value(std::string_view)> decode;
  std::function<std::string(const void*)> encode;
  /// How much memory a value takes, whose bytes in Redis are so many.
  std::function<std::size_t(const void*, std::size_t)> memory;
};

using any_loader = std::function<any_value(const key&, load_context&)>;
using any_async_loader = std::function<task<any_value>(const key&, load_context&)>;
using any_batch_loader = std::function<std::vector<any_value>(std::span<const key>, load_context&)>;

/// What is in Redis.
struct looked_up {
  bool found = false;
  fetched what;  // when found
};

class cache_state;
class near_cache;

class TENANTRY_EXPORT cache_core {
 public:
  /// Errors: invalid_option, naming the field.
  cache_core(const client& redis, const cache_options& options, value_codec codec);
  ~cache_core();
  cache_core(const cache_core&) = delete;
  cache_core& operator=(const cache_core&) = delete;

  /// The value of this key in memory, if it is there. Errors: error (recursive_load) inside of this key's own load.
  [[nodiscard]] near_hit find_near(const key& k) const { return near_ == nullptr ? near_hit{} : look_near(k); }
  [[nodiscard]] near_hit find_near(const key& k, const load_chain* inside) const;
  [[nodiscard]] bool has_near() const noexcept { return near_ != nullptr; }

  /// `anywhere` is the same loader, where it may run after this call; or nothing.
  fetched fetch(const key& k, const any_loader& here, const std::shared_ptr<const any_async_loader>& anywhere);
  /// `inside` of another load, or nothing.
  task<fetched> async_fetch(key k, std::shared_ptr<const any_async_loader> load,
                            std::shared_ptr<const load_chain> inside);
  /// In the order of the keys. With `load_all`, what is missing is loaded by one call of it.
  std::vector<fetched> fetch_many(std::span<const key> keys, const any_loader& here,
                                  const std::shared_ptr<const any_async_loader>& anywhere,
                                  const any_batch_loader& load_all);
  task<std::vector<fetched>> async_fetch_many(std::vector<key> keys, std::shared_ptr<const any_async_loader> load,
                                              any_batch_loader load_all);

  looked_up get(const key& k);
  task<looked_up> async_get(key k);
  void put(const key& k, any_value value);
  task<void> async_put(key k, any_value value);
  load_ticket begin(const key& k);
  task<load_ticket> async_begin(key k);
  bool put(const key& k, any_value value, const load_ticket& ticket);
  task<bool> async_put(key k, any_value value, load_ticket ticket);
  delivery invalidate(const key& k, std::chrono::milliseconds hold);
  task<delivery> async_invalidate(const key& k, std::chrono::milliseconds hold);
  delivery expire(const key& k);
  task<delivery> async_expire(const key& k);

  bool close(std::chrono::milliseconds patience);

  [[nodiscard]] cache_stats stats() const noexcept;
  [[nodiscard]] tenantry::near_stats near_stats() const;

 private:
  [[nodiscard]] near_hit look_near(const key& k) const;

  std::unique_ptr<cache_state> state_;
  near_cache* near_;  // of the state, or nothing
};

/// What of several keys is in memory, and which ones have to be fetched.
class near_hits {
 public:
  near_hits(const cache_core& core, std::span<const key> keys) : hits_(keys.size()) {
    if (!core.has_near()) missing_.assign(keys.begin(), keys.end());
    for (std::size_t i = 0; i < keys.size() && core.has_near(); ++i) {
      hits_[i] = core.find_near(keys[i]);
      if (!hits_[i].found) missing_.push_back(keys[i]);
    }
  }

  [[nodiscard]] const std::vector<key>& missing() const noexcept { return missing_; }
  [[nodiscard]] std::size_t size() const noexcept { return hits_.size(); }
  near_hit& operator[](std::size_t i) noexcept { return hits_[i]; }

 private:
  std::vector<near_hit> hits_;
  std::vector<key> missing_;
};

}  // namespace tenantry::detail
