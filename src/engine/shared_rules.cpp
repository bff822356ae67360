#include "engine/shared_rules.hpp"

#include <tenantry/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>

namespace tenantry::detail {

namespace {

using namespace std::string_view_literals;

// Both lists are sorted.
constexpr std::array refused_names{
    "ASKING"sv,      "AUTH"sv,       "BLMOVE"sv,   "BLMPOP"sv,       "BLPOP"sv,     "BRPOP"sv,        "BRPOPLPUSH"sv,
    "BZMPOP"sv,      "BZPOPMAX"sv,   "BZPOPMIN"sv, "DISCARD"sv,      "EXEC"sv,      "HELLO"sv,        "MONITOR"sv,
    "MULTI"sv,       "PSUBSCRIBE"sv, "PSYNC"sv,    "PUNSUBSCRIBE"sv, "QUIT"sv,      "READONLY"sv,     "READWRITE"sv,
    "REPLCONF"sv,    "RESET"sv,      "SELECT"sv,   "SSUBSCRIBE"sv,   "SUBSCRIBE"sv, "SUNSUBSCRIBE"sv, "SYNC"sv,
    "UNSUBSCRIBE"sv, "UNWATCH"sv,    "WAIT"sv,     "WAITAOF"sv,      "WATCH"sv};
constexpr std::array refused_client{"CACHING"sv, "NO-TOUCH"sv, "REPLY"sv, "TRACKING"sv};

constexpr std::size_t longest = 13;

/// Upper case, or empty when it is longer than any word in the lists.
std::string upper(std::string_view word) {
  std::string text;
  if (word.size() > longest) return text;
  for (const char c : word) text += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return text;
}

template <std::size_t N>
bool listed(const std::array<std::string_view, N>& list, std::string_view word) noexcept {
  return std::ranges::binary_search(list, word);
}

/// True for an XREAD or XREADGROUP that waits: BLOCK stands among its options, before the keys.
bool blocks(const command& one) {
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
    const std::string word = upper(rest.substr(0, size));
    if (word == "BLOCK" || word == "STREAMS") return word == "BLOCK";
    rest.remove_prefix(size + 2);
    for (int names = word == "GROUP" ? 2 : 0; names > 0 && !rest.empty(); --names) {
      const std::string_view name_digits = line();
      std::from_chars(name_digits.data(), name_digits.data() + name_digits.size(), size);
      rest.remove_prefix(size + 2);
    }
  }
  return false;
}

}  // namespace

static_assert(std::ranges::is_sorted(refused_names) && std::ranges::is_sorted(refused_client));

void check_shareable(const command& one) {
  const std::string name = upper(one.name());
  const bool refused = listed(refused_names, name) ||
                       (name == "CLIENT" && listed(refused_client, upper(one.first_argument()))) ||
                       (name == "SCRIPT" && upper(one.first_argument()) == "DEBUG") ||
                       ((name == "XREAD" || name == "XREADGROUP") && blocks(one));
  if (!refused) return;
  throw error{errc::refused_command, execution::not_sent,
              fmt::format("{} cannot run on a connection that is shared by all callers of a client", one.name())};
}

}  // namespace tenantry::detail
