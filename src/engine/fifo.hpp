#pragma once
// A queue that stops allocating once it has reached its usual length.

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace tenantry::detail {

template <class T>
class fifo {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == items_.size(); }
  [[nodiscard]] std::size_t size() const noexcept { return items_.size() - head_; }
  [[nodiscard]] T& front() noexcept { return items_[head_]; }
  [[nodiscard]] std::span<T> items() noexcept { return std::span{items_}.subspan(head_); }
  [[nodiscard]] std::span<const T> items() const noexcept { return std::span{items_}.subspan(head_); }

  /// The next `push_back` does not allocate.
  void make_room() {
    if (items_.size() < items_.capacity()) return;
    drop_taken();
    if (items_.size() == items_.capacity()) items_.reserve(items_.empty() ? 16 : 2 * items_.size());
  }
  void push_back(T item) {
    if (head_ == items_.size()) clear();
    if (head_ > 64 && 2 * head_ > items_.size()) drop_taken();
    items_.push_back(std::move(item));
  }
  void pop_front() noexcept { ++head_; }
  void push_front(std::span<const T> before) {
    drop_taken();
    items_.insert(items_.begin(), before.begin(), before.end());
  }
  void remove(const T& item) {
    drop_taken();
    std::erase(items_, item);
  }
  void clear() noexcept {
    items_.clear();
    head_ = 0;
  }

 private:
  void drop_taken() {
    items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }

  std::vector<T> items_;
  std::size_t head_ = 0;
};

}  // namespace tenantry::detail
