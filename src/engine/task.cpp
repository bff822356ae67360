#include <tenantry/task.hpp>

namespace tenantry::detail {

task_start*& innermost_start() noexcept {
  thread_local task_start* innermost = nullptr;
  return innermost;
}

}  // namespace tenantry::detail
