#pragma once
// The words of a command, for the rules that go by them.

#include <tenantry/command.hpp>

#include <array>
#include <cstddef>
#include <string_view>

namespace tenantry::detail {

/// A command's name in upper case, and with a second word after a space. Nothing when it is longer than any that the
/// rules know.
class upper_words {
 public:
  explicit upper_words(std::string_view name) noexcept { append(name); }
  upper_words(std::string_view name, std::string_view second) noexcept {
    append(name);
    append(" ");
    append(second);
  }

  [[nodiscard]] std::string_view str() const noexcept {
    return size_ <= text_.size() ? std::string_view{text_.data(), size_} : std::string_view{};
  }

 private:
  void append(std::string_view word) noexcept {
    for (const char c : word) {
      if (size_ < text_.size()) text_[size_] = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
      if (size_ <= text_.size()) ++size_;
    }
  }

  std::array<char, 32> text_{};
  std::size_t size_ = 0;  // larger than text_: too long
};

/// True for an XREAD or XREADGROUP that waits: BLOCK stands among its options, before the keys.
bool waits_for_entries(const command& one);

}  // namespace tenantry::detail
