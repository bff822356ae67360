#pragma once
// Which loads the current thread is inside of, so that a nested fetch never waits for itself.

#include <tenantry/export.hpp>

#include <memory>

namespace tenantry::detail {

struct load_chain;

/// Stands on the stack around a call of a loader.
class TENANTRY_EXPORT load_scope {
 public:
  explicit load_scope(std::shared_ptr<const load_chain> load) noexcept;
  ~load_scope();
  load_scope(const load_scope&) = delete;
  load_scope& operator=(const load_scope&) = delete;

  /// The loads that this thread is inside of, of any cache, or nothing.
  [[nodiscard]] static std::shared_ptr<const load_chain> innermost() noexcept;
  /// True when there is one.
  [[nodiscard]] static bool active() noexcept;

 private:
  const std::shared_ptr<const load_chain> load_;
  const load_scope* outer_;
};

}  // namespace tenantry::detail
