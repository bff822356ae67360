#include "caching/near_write.hpp"

#include "caching/near_tracking.hpp"
#include "engine/seam.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

namespace tenantry::detail {

namespace {

/// All of this process. In the child of a fork there is another one: the locks of the parent may be held for ever.
struct registry {
  std::uint64_t forks = fork_count();
  std::mutex mutex;
  std::vector<near_tracking*> all;
  std::atomic<std::size_t> size = 0;
};

registry& of_this_process() {
  static std::atomic<registry*> current = new registry;
  registry* now = current.load(std::memory_order_acquire);
  while (now->forks != fork_count()) {
    auto* const own = new registry;
    if (current.compare_exchange_strong(now, own)) return *own;
    delete own;
  }
  return *now;
}

void tell(const std::vector<std::string>& names, bool begins) noexcept {
  registry& process = of_this_process();
  if (process.size.load(std::memory_order_acquire) == 0) return;
  const std::lock_guard held{process.mutex};
  for (near_tracking* each : process.all) {
    for (const std::string& name : names) each->wrote(name, begins);
  }
}

}  // namespace

near_write::near_write(std::vector<std::string> names) noexcept : names_{std::move(names)} { tell(names_, true); }

near_write::~near_write() { tell(names_, false); }

void near_write::add(near_tracking& one) {
  registry& process = of_this_process();
  const std::lock_guard held{process.mutex};
  process.all.push_back(&one);
  process.size = process.all.size();
}

void near_write::remove(near_tracking& one) noexcept {
  registry& process = of_this_process();
  const std::lock_guard held{process.mutex};
  std::erase(process.all, &one);
  process.size = process.all.size();
}

}  // namespace tenantry::detail
