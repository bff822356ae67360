#include "report.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstddef>
#include <cstdio>
#include <unistd.h>

namespace buildings {

namespace {

std::string per_second(const statistics& of) {
  const double seconds = std::chrono::duration<double>{of.elapsed}.count();
  return seconds > 0 ? grouped(static_cast<std::uint64_t>(static_cast<double>(of.requests) / seconds)) : "-";
}

std::string hit_rate(const statistics& of) {
  if (of.from_cache == 0) return "-";
  return fmt::format("{:.2f} %", 100.0 * static_cast<double>(of.from_cache) / static_cast<double>(of.requests));
}

void print_row(std::string_view name, std::string_view with_cache, std::string_view without_cache) {
  fmt::print("  {:<24}{:>16}{:>16}\n", name, with_cache, without_cache);
}

}  // namespace

std::string group_digits(std::string digits) {
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(digits.begin() + at, ',');
  return digits;
}

std::string milliseconds(std::chrono::nanoseconds span) {
  const double ms = std::chrono::duration<double, std::milli>{span}.count();
  return fmt::format("{:.{}f} ms", ms, ms < 10 ? 2 : 0);
}

std::string in_seconds(std::chrono::milliseconds span) {
  return fmt::format("{:.1f} s", std::chrono::duration<double>{span}.count());
}

std::string latest_reading(const portfolio_kpi& figures) {
  if (figures.latest_meter.empty()) return "no reading in the last 48 hours";
  const std::chrono::sys_seconds at{std::chrono::seconds{figures.latest_reading_at}};
  const auto watt_hours = figures.latest_reading_watt_hours;
  return fmt::format("{} at {:%Y-%m-%d %H:%M}, {}.{} kWh", figures.latest_meter, at, grouped(watt_hours / 1000),
                     watt_hours % 1000 / 100);
}

progress_line::progress_line() : terminal_{::isatty(STDOUT_FILENO) == 1}, last_{std::chrono::steady_clock::now()} {}

void progress_line::show(std::string_view text) {
  if (terminal_) {
    fmt::print("\r\033[K  {}", text);
    shown_ = true;
  } else {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::seconds{1}) return;
    last_ = now;
    fmt::print("  {}\n", text);
  }
  std::fflush(stdout);
}

void progress_line::clear() {
  if (shown_) fmt::print("\r\033[K");
  shown_ = false;
}

void print_table(const column& with_cache, const column& without_cache) {
  const statistics& cached = with_cache.measured;
  const statistics& direct = without_cache.measured;
  fmt::print("\n");
  print_row("", "with cache", "without cache");
  print_row("requests", grouped(cached.requests), grouped(direct.requests));
  print_row("database queries", grouped(with_cache.queries), grouped(without_cache.queries));
  print_row("hit rate", hit_rate(cached), hit_rate(direct));
  print_row("requests per second", per_second(cached), per_second(direct));
  print_row("latency p50", milliseconds(cached.percentile(0.50)), milliseconds(direct.percentile(0.50)));
  print_row("latency p99", milliseconds(cached.percentile(0.99)), milliseconds(direct.percentile(0.99)));
  print_row("wrong answers", grouped(cached.wrong), grouped(direct.wrong));
  fmt::print("\n");
}

}  // namespace buildings
