#include "telemetry.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <variant>

namespace gateway {

void event_lines::write(std::string_view name, std::span<const tenantry::event_field> fields) const {
  const auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  nlohmann::ordered_json line{
      {"at", fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)),
                         now.time_since_epoch().count() % 1000)},
      {"instance", instance_},
      {"event", name}};
  for (const tenantry::event_field& each : fields) {
    std::visit([&](const auto& value) { line[std::string{each.name}] = value; }, each.value);
  }
  const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
  const std::lock_guard held{mutex_};
  std::fwrite(text.data(), 1, text.size(), stderr);
}

namespace {

constexpr double first_ms = 0.01;
constexpr double growth = 1.25;

}  // namespace

void latency::note(std::chrono::nanoseconds took) noexcept {
  const double ms = std::chrono::duration<double, std::milli>(took).count();
  const double step = ms <= first_ms ? 0 : std::ceil(std::log(ms / first_ms) / std::log(growth));
  buckets_[std::min(buckets_.size() - 1, static_cast<std::size_t>(step))].fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t latency::count() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& each : buckets_) sum += each.load(std::memory_order_relaxed);
  return sum;
}

double latency::quantile(double q) const noexcept {
  const double wanted = q * static_cast<double>(count());
  double seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += static_cast<double>(buckets_[i].load(std::memory_order_relaxed));
    if (seen > 0 && seen >= wanted) return first_ms * std::pow(growth, static_cast<double>(i));
  }
  return 0;
}

metrics_page& metrics_page::begin(std::string_view name, std::string_view help, std::string_view type) {
  name_ = name;
  fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  return *this;
}

metrics_page& metrics_page::add(double value, labels of) {
  text_ += name_;
  char before = '{';
  for (const auto& [label, text] : of) {
    text_ += before;
    text_ += label;
    text_ += "=\"";
    for (const char each : text) {
      if (each == '\\' || each == '"') text_ += '\\';
      if (each == '\n') {
        text_ += "\\n";
      } else {
        text_ += each;
      }
    }
    text_ += '"';
    before = ',';
  }
  if (of.size() > 0) text_ += '}';
  fmt::format_to(std::back_inserter(text_), " {}\n", value);
  return *this;
}

}  // namespace gateway
