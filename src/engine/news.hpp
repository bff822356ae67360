#pragma once
// What a lane or push connection has to tell the observer once its mutex is free.

#include "engine/exchange.hpp"
#include "engine/notify.hpp"

#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// Collects events under the mutex of its owner. Costs nothing without an observer.
class news {
 public:
  news(const observer& told, std::string endpoint, std::string_view lane)
      : told_{told}, endpoint_{std::move(endpoint)}, lane_{lane} {}

  /// `number` is the event's own integer, called `what`; without a name it has none. `why` is what failed, if anything.
  void add(std::string_view name, std::string_view what = {}, std::int64_t number = 0, const failure* why = nullptr) {
    if (!told_) return;
    pending_.push_back({.name = name, .what = what, .number = number, .why = {}});
    if (why != nullptr) pending_.back().why = *why;
  }

  [[nodiscard]] bool empty() const noexcept { return pending_.empty(); }

  /// Tells without the mutex, and takes it again.
  void tell(std::unique_lock<std::mutex>& held) {
    if (pending_.empty()) return;
    const std::vector<entry> now = std::exchange(pending_, {});
    held.unlock();
    for (const entry& each : now) {
      std::array<event_field, 5> fields{{{.name = "endpoint", .value = std::string_view{endpoint_}},  //
                                         {.name = "lane", .value = lane_}}};
      std::size_t count = 2;
      if (each.why) {
        fields[count++] = {.name = "code", .value = to_string(each.why->code)};
        fields[count++] = {.name = "detail", .value = std::string_view{each.why->detail}};
      }
      if (!each.what.empty()) fields[count++] = {.name = each.what, .value = each.number};
      notify(told_, each.name, std::span<const event_field>{fields}.first(count));
    }
    held.lock();
  }

 private:
  struct entry {
    std::string_view name;
    std::string_view what;
    std::int64_t number = 0;
    std::optional<failure> why;
  };

  const observer& told_;
  const std::string endpoint_;
  const std::string_view lane_;
  std::vector<entry> pending_;
};

}  // namespace tenantry::detail
