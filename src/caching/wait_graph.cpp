#include "engine/seam.hpp"

#include <tenantry/detail/load_scope.hpp>
#include <tenantry/detail/wait_graph.hpp>
#include <tenantry/load_context.hpp>

#include <mutex>
#include <utility>

namespace tenantry::detail {

struct load_thread {
  const led_load* waits_for = nullptr;
};

namespace {

constinit one_per_process<std::mutex> mutex;  // of all members of led_load and load_thread

const std::shared_ptr<load_thread>& self() {
  thread_local const std::shared_ptr<load_thread> here = std::make_shared<load_thread>();
  return here;
}

}  // namespace

void led_load::lead() {
  const std::lock_guard held{mutex.get()};
  leader_ = self();
  queued_ = false;
}

void led_load::hand_over() noexcept {
  const std::lock_guard held{mutex.get()};
  leader_ = nullptr;
  queued_ = true;
}

void led_load::finish() noexcept {
  const std::lock_guard held{mutex.get()};
  leader_ = nullptr;
  queued_ = false;
}

bool led_load::begin_wait() {
  if (!load_scope::active()) return true;  // nobody can be waiting for a thread that leads nothing
  const std::lock_guard held{mutex.get()};
  for (const led_load* load = this; load != nullptr; load = load->leader_ ? load->leader_->waits_for : nullptr) {
    if (load->queued_ || load->awaits_ > 0 || load->leader_ == self()) return false;
  }
  self()->waits_for = this;
  return true;
}

/// A circle has one that comes last, and that one does not wait.
bool led_load::begin_await(const load_chain& inside) noexcept {
  const std::lock_guard held{mutex.get()};
  if (queued_ || awaits_ > 0 || (leader_ && leader_->waits_for != nullptr)) return false;
  for (const load_chain* each = &inside; each != nullptr; each = each->outer.get()) {
    if (each->load) ++each->load->awaits_;
  }
  return true;
}

led_load::wait_ends::~wait_ends() {
  if (!load_scope::active()) return;
  const std::lock_guard held{mutex.get()};
  self()->waits_for = nullptr;
}

led_load::await_ends::~await_ends() {
  const std::lock_guard held{mutex.get()};
  for (; inside != nullptr; inside = inside->outer.get()) {
    if (inside->load) --inside->load->awaits_;
  }
}

}  // namespace tenantry::detail
