#include <tenantry/detail/load_scope.hpp>
#include <tenantry/detail/wait_graph.hpp>

#include <mutex>

namespace tenantry::detail {

struct load_thread {
  const led_load* waits_for = nullptr;
};

namespace {

std::mutex mutex;  // of all leader_ and waits_for
thread_local load_thread self;

}  // namespace

void led_load::lead() noexcept {
  const std::lock_guard held{mutex};
  leader_ = &self;
}

void led_load::finish() noexcept {
  const std::lock_guard held{mutex};
  leader_ = nullptr;
}

bool led_load::begin_wait() noexcept {
  if (!load_scope::active()) return true;  // nobody can be waiting for a thread that leads nothing
  const std::lock_guard held{mutex};
  for (const led_load* load = this; load != nullptr && load->leader_ != nullptr; load = load->leader_->waits_for) {
    if (load->leader_ == &self) return false;
  }
  self.waits_for = this;
  return true;
}

led_load::wait_ends::~wait_ends() {
  if (!load_scope::active()) return;
  const std::lock_guard held{mutex};
  self.waits_for = nullptr;
}

}  // namespace tenantry::detail
