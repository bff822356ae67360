#include "engine/command_words.hpp"

#include <charconv>

namespace tenantry::detail {

bool waits_for_entries(const command& one) {
  const upper_words name{one.name()};
  if (name.str() != "XREAD" && name.str() != "XREADGROUP") return false;
  std::string_view rest = one.bytes();
  const auto line = [&rest] {
    const std::string_view text = rest.substr(1, rest.find('\r') - 1);
    rest.remove_prefix(text.size() + 3);
    return text;
  };
  line();  // the number of words
  while (!rest.empty()) {
    std::size_t size = 0;
    const std::string_view digits = line();
    std::from_chars(digits.data(), digits.data() + digits.size(), size);
    const upper_words word{rest.substr(0, size)};
    if (word.str() == "BLOCK" || word.str() == "STREAMS") return word.str() == "BLOCK";
    rest.remove_prefix(size + 2);
    for (int names = word.str() == "GROUP" ? 2 : 0; names > 0 && !rest.empty(); --names) {
      const std::string_view name_digits = line();
      std::from_chars(name_digits.data(), name_digits.data() + name_digits.size(), size);
      rest.remove_prefix(size + 2);
    }
  }
  return false;
}

}  // namespace tenantry::detail
