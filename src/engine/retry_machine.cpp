#include "engine/retry_machine.hpp"

#include "engine/command_rules.hpp"

#include <algorithm>

namespace tenantry::detail {

namespace {

constexpr int most_tries_at_a_replica = 4;

}  // namespace

bool retry_machine::repeatable() const {
  if (policy_ == retry::never) return false;
  return policy_ == retry::idempotent || std::ranges::all_of(commands_, is_read);
}

std::optional<retry_machine::time_point> retry_machine::again(const std::optional<failure>& failed,
                                                              std::span<const reply> replies, time_point now,
                                                              double random01) {
  if (failed) {
    const bool lost = failed->code == errc::connection_lost && failed->what == execution::unknown;
    if (!lost || now >= deadline_ || !repeatable() || !budget_.take()) return std::nullopt;
    return now;
  }
  if (commands_.size() != 1 || !replies.front().is_error() || policy_ == retry::never) return std::nullopt;
  switch (judge(commands_.front(), replies.front().error_text())) {
    case reply_rule::final:
      return std::nullopt;
    case reply_rule::reconnect_and_retry:
      if (replica_refusals_ == most_tries_at_a_replica) return std::nullopt;
      ++replica_refusals_;
      break;
    case reply_rule::retry_later:
      break;
  }
  const time_point next = now + retry_delay(attempts_++, random01);
  if (next >= deadline_) return std::nullopt;
  return next;
}

}  // namespace tenantry::detail
