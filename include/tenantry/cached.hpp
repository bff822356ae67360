#pragma once
// A value that a cache gave.

#include <tenantry/detail/fetched.hpp>
#include <tenantry/detail/near_pin.hpp>
#include <tenantry/error.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

namespace tenantry {

/// A fetched value, or the knowledge that there is none. The value is immutable, and lives as long as this does, also
/// when it has left the cache meanwhile.
///
/// Cost: a hit of the near cache counts no reference while it is only moved; a copy of it does, and `shared`.
/// Threads: as a plain value; copies may be read by different threads.
template <class T>
class cached {
 public:
  explicit cached(detail::fetched from)
      : share_{std::static_pointer_cast<const T>(std::move(from.value))},
        value_{share_.get()},
        source_{from.from},
        stored_{from.stored},
        computed_at_{from.computed_at.value_or(unknown)},
        failure_{std::move(from.failure)} {}
  explicit cached(detail::near_hit hit)
      : share_{std::static_pointer_cast<const T>(std::move(hit.share))},
        value_{hit.held != nullptr ? static_cast<const T*>(hit.held->get()) : share_.get()},
        held_{hit.held},
        pin_{std::move(hit.pin)},
        source_{tenantry::source::near},
        stored_{true},
        computed_at_{hit.computed_at != 0 ? std::chrono::microseconds{hit.computed_at} : unknown} {}

  cached(const cached& from)
      : share_{from.shared()},
        value_{share_.get()},
        source_{from.source_},
        stored_{from.stored_},
        computed_at_{from.computed_at_},
        failure_{from.failure_} {}
  /// What is left behind is absent.
  cached(cached&& from) noexcept
      : share_{std::move(from.share_)},
        value_{std::exchange(from.value_, nullptr)},
        held_{std::exchange(from.held_, nullptr)},
        pin_{std::move(from.pin_)},
        source_{from.source_},
        stored_{from.stored_},
        computed_at_{from.computed_at_},
        failure_{std::move(from.failure_)} {}
  cached& operator=(cached from) noexcept {
    std::swap(share_, from.share_);
    std::swap(value_, from.value_);
    std::swap(held_, from.held_);
    std::swap(pin_, from.pin_);
    std::swap(source_, from.source_);
    std::swap(stored_, from.stored_);
    std::swap(computed_at_, from.computed_at_);
    std::swap(failure_, from.failure_);
    return *this;
  }
  ~cached() = default;

  /// The value; there must be one.
  [[nodiscard]] const T& operator*() const noexcept { return *value_; }
  [[nodiscard]] const T* operator->() const noexcept { return value_; }
  /// True when the loader said that there is no value.
  [[nodiscard]] bool absent() const noexcept { return value_ == nullptr; }
  /// Keeps the value alive without the rest; nullptr when absent.
  [[nodiscard]] std::shared_ptr<const T> shared() const {
    return held_ != nullptr ? std::static_pointer_cast<const T>(*held_) : share_;
  }

  [[nodiscard]] tenantry::source source() const noexcept { return source_; }
  /// When its load began, by the server's clock. Nothing with envelope::bare, and when Redis could not be asked.
  [[nodiscard]] std::optional<std::chrono::system_clock::time_point> computed_at() const {
    if (computed_at_ == unknown) return std::nullopt;
    return std::chrono::system_clock::time_point{computed_at_};
  }
  /// True when the value is in Redis, as far as this call saw.
  [[nodiscard]] bool stored() const noexcept { return stored_; }
  /// Why Redis could not be asked, or could not take the value; nullptr when nothing failed.
  [[nodiscard]] const error* failure() const noexcept { return failure_.get(); }

 private:
  static constexpr std::chrono::microseconds unknown = std::chrono::microseconds::min();

  std::shared_ptr<const T> share_;  // nothing where an entry of the near cache is pinned
  const T* value_ = nullptr;
  const std::shared_ptr<const void>* held_ = nullptr;  // in that entry
  detail::near_pin pin_;
  tenantry::source source_;
  bool stored_;
  std::chrono::microseconds computed_at_;
  std::shared_ptr<const error> failure_;
};

}  // namespace tenantry
