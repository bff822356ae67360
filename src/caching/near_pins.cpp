#include "caching/near_pins.hpp"

#include <algorithm>
#include <array>
#include <new>

namespace tenantry::detail {

namespace {

struct alignas(64) block {
  std::array<near_pin::slot, near_pins::per_thread> slots{};
  std::atomic<bool> owned = true;
  block* next = nullptr;

  /// A block of which many slots are pins that other threads hold is left to them.
  [[nodiscard]] bool mostly_free() const noexcept {
    const auto used = std::ranges::count_if(
        slots, [](const near_pin::slot& each) { return each.load(std::memory_order_relaxed) != nullptr; });
    return used <= std::ssize(slots) / 2;
  }
};

constinit std::atomic<block*> blocks = nullptr;  // all there are; they stay

block* adopt() noexcept {
  for (block* each = blocks.load(std::memory_order_acquire); each != nullptr; each = each->next) {
    if (each->owned.load(std::memory_order_relaxed) || !each->mostly_free()) continue;
    if (!each->owned.exchange(true, std::memory_order_acquire)) return each;
  }
  auto* const made = new (std::nothrow) block;
  if (made == nullptr) return nullptr;
  made->next = blocks.load(std::memory_order_relaxed);
  // Whoever collects and does not see this block does so before any of its slots is set.
  while (!blocks.compare_exchange_weak(made->next, made, std::memory_order_seq_cst)) {
  }
  return made;
}

constinit thread_local block* mine = nullptr;
constinit thread_local bool ended = false;  // the thread keeps the block that it takes from here on

struct give_back {
  explicit give_back(near_pin::slot*& hint) noexcept : hint_{&hint} {}
  give_back(const give_back&) = delete;
  give_back& operator=(const give_back&) = delete;
  ~give_back() {
    ended = true;
    if (mine == nullptr) return;
    *hint_ = nullptr;
    mine->owned.store(false, std::memory_order_release);
    mine = nullptr;
  }

 private:
  near_pin::slot** hint_;
};

}  // namespace

near_pin::slot* near_pins::search() noexcept {
  if (mine == nullptr) {
    if (!ended) static thread_local const give_back at_end{hint};
    mine = adopt();
    if (mine == nullptr) return nullptr;
    hint = mine->slots.data();
  }
  const auto begin = static_cast<std::size_t>(hint - mine->slots.data());
  for (std::size_t i = 0; i < per_thread; ++i) {
    near_pin::slot& each = mine->slots[(begin + i) % per_thread];
    if (each.load(std::memory_order_acquire) != nullptr) continue;
    hint = &each;
    return &each;
  }
  return nullptr;
}

void near_pins::collect(std::vector<const void*>& in_use) {
  in_use.clear();
  for (const block* each = blocks.load(std::memory_order_seq_cst); each != nullptr; each = each->next) {
    for (const near_pin::slot& slot : each->slots) {
      if (const void* const held = slot.load(std::memory_order_seq_cst); held != nullptr) in_use.push_back(held);
    }
  }
  std::ranges::sort(in_use);
}

}  // namespace tenantry::detail
