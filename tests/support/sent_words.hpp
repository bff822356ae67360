#pragma once
// The words of commands, for tests that look at what is sent.

#include <tenantry/command.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace support {

/// "SET", "a", "1" of `command{"SET", "a", 1}`.
inline std::vector<std::string> words_of(const tenantry::command& one) {
  std::vector<std::string> words;
  std::string_view rest = one.bytes();
  rest.remove_prefix(rest.find('\n') + 1);
  while (!rest.empty()) {
    const std::size_t size = std::stoul(std::string{rest.substr(1)});
    rest.remove_prefix(rest.find('\n') + 1);
    words.emplace_back(rest.substr(0, size));
    rest.remove_prefix(size + 2);
  }
  return words;
}

/// "TIME SCAN TIME"
inline std::string names_of(std::span<const tenantry::command> commands) {
  std::string names;
  for (const tenantry::command& each : commands) names += (names.empty() ? "" : " ") + std::string{each.name()};
  return names;
}

}  // namespace support
