#pragma once
// What operators see: one JSON line for each event, and figures in the text format of Prometheus.

#include <tenantry/observer.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gateway {

/// Writes events to standard error, one line each:
/// {"at":"2026-03-01T12:00:00.123Z","instance":"a","event":"sse_subscribed","tenant":"acme"}. Never a payload or a
/// token.
class event_lines {
 public:
  explicit event_lines(std::string instance) : instance_{std::move(instance)} {}

  void write(std::string_view name, std::initializer_list<tenantry::event_field> fields) const {
    write(name, std::span{fields.begin(), fields.size()});
  }
  void write(std::string_view name, std::span<const tenantry::event_field> fields) const;

 private:
  const std::string instance_;
  mutable std::mutex mutex_;
};

/// Counts durations in buckets that grow by a quarter, from 10 us to 100 s.
class latency {
 public:
  void note(std::chrono::nanoseconds took) noexcept;
  /// In milliseconds; 0 where nothing was counted.
  [[nodiscard]] double quantile(double q) const noexcept;
  [[nodiscard]] std::uint64_t count() const noexcept;

 private:
  std::array<std::atomic<std::uint64_t>, 73> buckets_{};
};

/// Lines of the text format, version 0.0.4.
class metrics_page {
 public:
  using labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  /// Begins a metric; `add` gives its values.
  metrics_page& counter(std::string_view name, std::string_view help) { return begin(name, help, "counter"); }
  metrics_page& gauge(std::string_view name, std::string_view help) { return begin(name, help, "gauge"); }
  metrics_page& add(double value, labels of = {});
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  metrics_page& begin(std::string_view name, std::string_view help, std::string_view type);

  std::string text_;
  std::string name_;
};

}  // namespace gateway
