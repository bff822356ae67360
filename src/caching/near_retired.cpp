#include "caching/near_retired.hpp"

#include "caching/near_pins.hpp"

#include <algorithm>
#include <atomic>
#include <new>
#include <vector>

namespace tenantry::detail {

namespace {

constinit std::atomic<near_node*> orphans = nullptr;

void add_orphan(near_node& node) noexcept {
  node.older = orphans.load(std::memory_order_relaxed);
  while (!orphans.compare_exchange_weak(node.older, &node, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

}  // namespace

std::size_t near_retired::reclaim(void (*destroy)(near_node*) noexcept) noexcept {
  // What is retired after the pins were collected may have been pinned after that too. So these come first.
  near_retired pinned;
  std::size_t freed = 0;
  near_node* orphan = orphans.exchange(nullptr, std::memory_order_acquire);
  bool known = true;
  std::vector<const void*> in_use;
  try {
    near_pins::collect(in_use);
  } catch (const std::bad_alloc&) {
    known = false;
  }
  const auto free = [&](const near_node* node) {
    return known && !std::ranges::binary_search(in_use, static_cast<const void*>(node));
  };
  while (orphan != nullptr) {
    near_node* const each = std::exchange(orphan, orphan->older);
    if (free(each)) {
      each->destroy(each);
    } else {
      add_orphan(*each);
    }
  }
  while (near_node* const each = pop()) {
    if (!free(each)) {
      pinned.push(*each);
      continue;
    }
    freed += each->bytes();
    destroy(each);
  }
  push_all(pinned);
  return freed;
}

void near_retired::abandon(void (*destroy)(near_node*) noexcept) noexcept {
  while (near_node* const each = pop()) {
    each->destroy = destroy;
    add_orphan(*each);
  }
}

}  // namespace tenantry::detail
