#pragma once
// An observer that remembers.

#include <tenantry/observer.hpp>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace support {

/// Keeps what it is told.
class listener {
 public:
  struct told {
    std::string name;
    std::map<std::string, std::string> text;
    std::map<std::string, std::int64_t> number;
  };

  [[nodiscard]] tenantry::observer ear() {
    return [this](const tenantry::event& what) {
      told entry{.name = std::string{what.name}, .text = {}, .number = {}};
      for (const tenantry::event_field& each : what.fields) {
        if (const auto* text = std::get_if<std::string_view>(&each.value)) entry.text[std::string{each.name}] = *text;
        if (const auto* number = std::get_if<std::int64_t>(&each.value)) entry.number[std::string{each.name}] = *number;
      }
      const std::lock_guard lock{mutex_};
      heard_.push_back(std::move(entry));
    };
  }
  [[nodiscard]] std::vector<told> all() const {
    const std::lock_guard lock{mutex_};
    return heard_;
  }
  [[nodiscard]] std::vector<told> all(std::string_view name) const {
    const std::lock_guard lock{mutex_};
    std::vector<told> found;
    std::ranges::copy_if(heard_, std::back_inserter(found), [name](const told& each) { return each.name == name; });
    return found;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<told> heard_;
};

}  // namespace support
