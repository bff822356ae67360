#pragma once
// Options of a command line: --name value, and --name alone.

#include <charconv>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace gateway {

class options {
 public:
  /// Errors: std::invalid_argument for what does not begin with two dashes.
  options(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view name{argv[i]};
      if (!name.starts_with("--") || name.size() < 3)
        throw std::invalid_argument{"not an option: " + std::string{name}};
      const bool valued = i + 1 < argc && !std::string_view{argv[i + 1]}.starts_with("--");
      given_.insert_or_assign(std::string{name.substr(2)}, valued ? argv[++i] : "");
    }
  }

  [[nodiscard]] bool flag(const std::string& name) const { return given_.contains(name); }
  [[nodiscard]] std::string text(const std::string& name, const std::string& otherwise) const {
    const auto found = given_.find(name);
    return found == given_.end() ? otherwise : found->second;
  }
  /// Errors: std::invalid_argument, naming the option.
  [[nodiscard]] std::uint64_t number(const std::string& name, std::uint64_t otherwise, std::uint64_t least = 0,
                                     std::uint64_t most = std::numeric_limits<std::uint64_t>::max()) const {
    const auto found = given_.find(name);
    if (found == given_.end()) return otherwise;
    const std::string& text = found->second;
    std::uint64_t value = 0;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (fault != std::errc{} || end != text.data() + text.size()) {
      throw std::invalid_argument{"--" + name + " needs a number, not '" + text + "'"};
    }
    if (value < least || value > most) {
      throw std::invalid_argument{"--" + name + " is " + std::to_string(least) + " to " + std::to_string(most)};
    }
    return value;
  }

 private:
  std::map<std::string, std::string, std::less<>> given_;
};

}  // namespace gateway
