#include "caching/near_write.hpp"

#include "caching/near_tracking.hpp"
#include "engine/seam.hpp"

#include <atomic>
#include <cstddef>
#include <mutex>
#include <utility>

namespace tenantry::detail {

namespace {

struct registry {
  std::mutex mutex;
  std::vector<near_tracking*> all;
  std::atomic<std::size_t> size = 0;
};

constinit one_per_process<registry> registries;

void tell(const std::vector<std::string>& names, bool begins) noexcept {
  registry& process = registries.get();
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
  registry& process = registries.get();
  const std::lock_guard held{process.mutex};
  process.all.push_back(&one);
  process.size = process.all.size();
}

void near_write::remove(near_tracking& one) noexcept {
  registry& process = registries.get();
  const std::lock_guard held{process.mutex};
  std::erase(process.all, &one);
  process.size = process.all.size();
}

}  // namespace tenantry::detail
