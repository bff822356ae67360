#pragma once
// What a loader may ask, and say about the value it computes.

#include <tenantry/export.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenantry {

namespace detail {
struct load_access;
class led_load;

/// A load and those it runs inside of, the innermost first.
struct load_chain {
  const void* cache = nullptr;
  std::string key = {};
  std::shared_ptr<led_load> load = {};  // nothing where nobody can wait for it
  bool holds_thread = false;            // its own, or one of those around it, until it has ended
  std::shared_ptr<const load_chain> outer = {};
};
}  // namespace detail

/// Given to a loader for one call. Threads: the loader's own.
class TENANTRY_EXPORT load_context {
 public:
  /// Keeps this value for another time than the cache's `ttl` (jitter still shortens it). Zero or less: not at all.
  void ttl(std::chrono::milliseconds span) noexcept { ttl_ = span; }
  /// Gives this value to those who wait for it, and does not store it.
  void do_not_store() noexcept { ttl_ = std::chrono::milliseconds::zero(); }
  /// Invalidating this tag of the key's tenant invalidates the value. The name may hold any bytes but not be empty.
  /// Errors: invalid_name; error (unsupported) where the cache's envelope has no room for tags.
  void tag(std::string_view name);

  /// Triggered when nobody waits for the value any longer: the cache is closed, or `load_timeout` has passed.
  [[nodiscard]] const std::stop_token& stop() const noexcept { return stop_; }
  /// The value that is about to be replaced, if it can be read; of the cache's own type.
  template <class T>
  [[nodiscard]] std::shared_ptr<const T> previous() const {
    return previous_ ? std::static_pointer_cast<const T>(previous_()) : nullptr;
  }

  [[nodiscard]] std::optional<std::chrono::milliseconds> chosen_ttl() const noexcept { return ttl_; }

 private:
  friend struct detail::load_access;

  std::optional<std::chrono::milliseconds> ttl_;
  std::optional<tenant_id> tenant_;  // of the key; nothing where tags are not possible
  std::vector<std::string> tags_;
  std::stop_token stop_;
  std::function<std::shared_ptr<const void>()> previous_;
  std::shared_ptr<const detail::load_chain> chain_;
};

namespace detail {

/// The cache's side of a load_context.
struct load_access {
  static load_context make(std::shared_ptr<const load_chain> chain, std::optional<tenant_id> tagged,
                           std::stop_token stop, std::function<std::shared_ptr<const void>()> previous) {
    load_context context;
    context.chain_ = std::move(chain);
    context.tenant_ = std::move(tagged);
    context.stop_ = std::move(stop);
    context.previous_ = std::move(previous);
    return context;
  }
  static std::vector<std::string> tags(load_context& context) { return std::move(context.tags_); }
  static const std::shared_ptr<const load_chain>& chain(const load_context& context) { return context.chain_; }
  static void tag(load_context& context, std::vector<std::string> names) { context.tags_ = std::move(names); }
};

}  // namespace detail
}  // namespace tenantry
