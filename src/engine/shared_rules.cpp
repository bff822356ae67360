#include "engine/shared_rules.hpp"

#include "engine/command_words.hpp"

#include <tenantry/error.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace tenantry::detail {

namespace {

using namespace std::string_view_literals;

// All lists are sorted.

/// They hold up whoever comes after them, or open what belongs to one caller.
constexpr std::array exclusive_names{"BLMOVE"sv, "BLMPOP"sv,   "BLPOP"sv,    "BRPOP"sv,   "BRPOPLPUSH"sv,
                                     "BZMPOP"sv, "BZPOPMAX"sv, "BZPOPMIN"sv, "DISCARD"sv, "EXEC"sv,
                                     "MULTI"sv,  "UNWATCH"sv,  "WAIT"sv,     "WAITAOF"sv, "WATCH"sv};
/// They change what the next user of the connection finds, or answer with more or fewer than one reply.
constexpr std::array refused_names{"ASKING"sv,       "AUTH"sv,         "HELLO"sv,      "MONITOR"sv,    "PSUBSCRIBE"sv,
                                   "PSYNC"sv,        "PUNSUBSCRIBE"sv, "QUIT"sv,       "READONLY"sv,   "READWRITE"sv,
                                   "REPLCONF"sv,     "RESET"sv,        "SELECT"sv,     "SSUBSCRIBE"sv, "SUBSCRIBE"sv,
                                   "SUNSUBSCRIBE"sv, "SYNC"sv,         "UNSUBSCRIBE"sv};
constexpr std::array refused_client{"CACHING"sv, "NO-EVICT"sv, "NO-TOUCH"sv, "REPLY"sv, "SETNAME"sv, "TRACKING"sv};

template <std::size_t N>
bool listed(const std::array<std::string_view, N>& list, std::string_view word) noexcept {
  return std::ranges::binary_search(list, word);
}

bool changes_connection(const command& one, std::string_view name) {
  return listed(refused_names, name) ||
         (name == "CLIENT" && listed(refused_client, upper_words{one.first_argument()}.str())) ||
         (name == "SCRIPT" && upper_words{one.first_argument()}.str() == "DEBUG");
}

}  // namespace

static_assert(std::ranges::is_sorted(exclusive_names) && std::ranges::is_sorted(refused_names) &&
              std::ranges::is_sorted(refused_client));

void check_shareable(const command& one) {
  const upper_words name{one.name()};
  const bool exclusive = listed(exclusive_names, name.str()) || waits_for_entries(one);
  if (!exclusive && !changes_connection(one, name.str())) return;
  throw error{errc::refused_command, execution::not_sent,
              fmt::format("{} cannot run on a connection that is shared by all callers of a client{}", one.name(),
                          exclusive ? "; client::exclusive() gives one that is not" : "")};
}

void check_reusable(const command& one) {
  if (!changes_connection(one, upper_words{one.name()}.str())) return;
  throw error{errc::refused_command, execution::not_sent,
              fmt::format("{} cannot run on a connection that others use later", one.name())};
}

void note_opening(const command& one, transaction_state& state) {
  const upper_words name{one.name()};
  if (name.str() == "MULTI") state.open = true;
  if (name.str() == "WATCH") state.watching = true;
}

void note_end(const command& one, const reply& answer, transaction_state& state) {
  const upper_words name{one.name()};
  const bool done = !answer.is_error() || answer.error_text().starts_with("EXECABORT");
  if (!done) return;
  if (name.str() == "UNWATCH" && !state.open) state.watching = false;
  if (name.str() == "EXEC" || name.str() == "DISCARD") state = {};
}

}  // namespace tenantry::detail
