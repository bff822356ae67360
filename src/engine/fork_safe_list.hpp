#pragma once
// What a child of a fork finds in order, whenever the fork was.

#include <atomic>
#include <memory>
#include <utility>

namespace tenantry::detail {

/// Objects that are somebody else's. At every moment the list is whole, without a lock.
///
/// Threads: all members from any thread; `for_each` in the child of a fork alone, where nobody else uses the list.
template <class T>
class fork_safe_list {
  struct node {
    std::atomic<T*> what = nullptr;
    std::atomic<bool> taken = true;
    node* next = nullptr;
  };

 public:
  fork_safe_list() noexcept = default;
  fork_safe_list(const fork_safe_list&) = delete;
  fork_safe_list& operator=(const fork_safe_list&) = delete;
  ~fork_safe_list() {
    for (node* each = first_; each != nullptr;) delete std::exchange(each, each->next);
  }

  /// In the list from `set` to its end. The list must outlive it.
  class place {
   public:
    explicit place(fork_safe_list& in) : mine_{in.free_node()} {}
    place(const place&) = delete;
    place& operator=(const place&) = delete;
    ~place() {
      mine_.what.store(nullptr, std::memory_order_relaxed);
      mine_.taken.store(false, std::memory_order_release);
    }

    void set(T& what) noexcept { mine_.what.store(&what, std::memory_order_relaxed); }

   private:
    node& mine_;
  };

  template <class Function>
  void for_each(Function function) const {
    for (const node* each = first_.load(std::memory_order_acquire); each != nullptr; each = each->next) {
      if (T* const what = each->what.load(std::memory_order_relaxed); what != nullptr) function(*what);
    }
  }

 private:
  node& free_node() {
    for (node* each = first_.load(std::memory_order_acquire); each != nullptr; each = each->next) {
      if (!each->taken.exchange(true, std::memory_order_acquire)) return *each;
    }
    node* const made = new node;
    made->next = first_.load(std::memory_order_relaxed);
    while (!first_.compare_exchange_weak(made->next, made, std::memory_order_release, std::memory_order_relaxed)) {
    }
    return *made;
  }

  std::atomic<node*> first_ = nullptr;  // nodes are used again, and stay as long as the list
};

}  // namespace tenantry::detail
