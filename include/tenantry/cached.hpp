#pragma once
// A value that a cache gave.

#include <tenantry/detail/fetched.hpp>
#include <tenantry/error.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

namespace tenantry {

/// A fetched value, or the knowledge that there is none. Cheap to copy; the value is shared and immutable.
template <class T>
class cached {
 public:
  explicit cached(detail::fetched from)
      : value_{std::static_pointer_cast<const T>(std::move(from.value))}, about_{std::move(from)} {}

  /// The value; there must be one.
  [[nodiscard]] const T& operator*() const noexcept { return *value_; }
  [[nodiscard]] const T* operator->() const noexcept { return value_.get(); }
  /// True when the loader said that there is no value.
  [[nodiscard]] bool absent() const noexcept { return value_ == nullptr; }
  /// Keeps the value alive without the rest; nullptr when absent.
  [[nodiscard]] const std::shared_ptr<const T>& shared() const noexcept { return value_; }

  [[nodiscard]] tenantry::source source() const noexcept { return about_.from; }
  /// When its load began, by the server's clock. Nothing with envelope::bare, and when Redis could not be asked.
  [[nodiscard]] std::optional<std::chrono::system_clock::time_point> computed_at() const {
    if (!about_.computed_at) return std::nullopt;
    return std::chrono::system_clock::time_point{*about_.computed_at};
  }
  /// True when the value is in Redis, as far as this call saw.
  [[nodiscard]] bool stored() const noexcept { return about_.stored; }
  /// Why Redis could not be asked, or could not take the value; nullptr when nothing failed.
  [[nodiscard]] const error* failure() const noexcept { return about_.failure.get(); }

 private:
  std::shared_ptr<const T> value_;
  detail::fetched about_;  // without its value
};

}  // namespace tenantry
