#include "engine/failures.hpp"

#include <fmt/format.h>

#include <system_error>
#include <utility>

namespace tenantry::detail {

failure closed_before() {
  return {.code = errc::closed, .what = execution::not_sent, .detail = "the client is closed"};
}

failure closed_under_way() {
  return {.code = errc::closed, .what = execution::not_sent, .detail = "the client was closed"};
}

failure forked_since() {
  return {.code = errc::forked,
          .what = execution::not_sent,
          .detail = "the process was forked; the child needs a client of its own"};
}

failure exclusive_lost() {
  return {.code = errc::connection_lost,
          .what = execution::not_sent,
          .detail = "the exclusive connection was lost, with all state it had"};
}

failure exclusive_given_back() {
  return {.code = errc::connection_lost,
          .what = execution::not_sent,
          .detail = "the exclusive connection was given back before"};
}

failure exclusive_busy() {
  return {.code = errc::refused_command,
          .what = execution::not_sent,
          .detail = "another call of this exclusive connection is under way"};
}

failure answer_not_awaited() { return lost_because("a command's answer was not waited for"); }

failure all_exclusive_taken(std::size_t most) {
  return {.code = errc::overloaded,
          .what = execution::not_sent,
          .detail = fmt::format("all {} exclusive connections are taken", most)};
}

failure cancelled(execution what) { return {.code = errc::cancelled, .what = what, .detail = "cancelled"}; }

failure overloaded(std::string_view tenant) {
  return {.code = errc::overloaded,
          .what = execution::not_sent,
          .detail = tenant.empty() ? "too many commands wait already"
                                   : fmt::format("too many commands of all, or of tenant {}, wait already", tenant)};
}

failure not_connected_within(std::chrono::milliseconds limit, std::string_view waited_for) {
  return {.code = errc::unreachable,
          .what = execution::not_sent,
          .detail = fmt::format("no {} within {} ms", waited_for.empty() ? "connection" : waited_for, limit.count())};
}

failure lost_because(std::string why) {
  return {.code = errc::connection_lost, .what = execution::unknown, .detail = std::move(why)};
}

failure lost_in(const net::socket& connection, const net::transfer& what) {
  if (auto defect = connection.defect()) return lost_because(std::move(defect->text));
  if (what.how == net::transfer::status::ended) return lost_because("the server closed the connection");
  return lost_because(std::generic_category().message(what.fault));
}

failure stalled(std::chrono::milliseconds limit) {
  return lost_because(fmt::format("the server did not answer for {} ms", limit.count()));
}

failure expired(const link_state& link, bool staged, execution what) {
  if (!staged && link.last_failure()) {
    failure why = *link.last_failure();
    why.detail += "; gave up at the deadline";
    return why;
  }
  return {.code = errc::timeout,
          .what = what,
          .detail = fmt::format("the deadline passed while waiting for the {}", staged ? "reply" : "connection")};
}

}  // namespace tenantry::detail
