#pragma once
// Which loads the current thread is inside of, so that a nested fetch never waits for itself.

#include <tenantry/export.hpp>

#include <string_view>

namespace tenantry::detail {

/// Stands on the stack around a call of a loader.
class TENANTRY_EXPORT load_scope {
 public:
  load_scope(const void* cache, std::string_view key) noexcept;
  ~load_scope();
  load_scope(const load_scope&) = delete;
  load_scope& operator=(const load_scope&) = delete;

  /// Errors: error (recursive_load) when this thread is loading this key of this cache.
  static void check(const void* cache, std::string_view key);
  /// True when this thread is inside of a loader of any cache.
  [[nodiscard]] static bool active() noexcept;

 private:
  const void* cache_;
  std::string_view key_;
  const load_scope* outer_;
};

}  // namespace tenantry::detail
