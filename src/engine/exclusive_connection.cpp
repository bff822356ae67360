#include "engine/engine.hpp"
#include "engine/shared_rules.hpp"

#include <tenantry/error.hpp>
#include <tenantry/exclusive_connection.hpp>

#include <cstddef>
#include <new>
#include <utility>

namespace tenantry {

exclusive_connection::exclusive_connection(detail::engine& engine,
                                           std::shared_ptr<detail::blocking_driver> connection) noexcept
    : engine_{&engine}, connection_{std::move(connection)} {}

exclusive_connection::exclusive_connection(exclusive_connection&& from) noexcept = default;

exclusive_connection& exclusive_connection::operator=(exclusive_connection&& from) noexcept {
  if (this == &from) return *this;
  give_back();
  engine_ = from.engine_;
  connection_ = std::move(from.connection_);
  state_ = from.state_;
  return *this;
}

exclusive_connection::~exclusive_connection() { give_back(); }

void exclusive_connection::give_back() noexcept {
  if (!connection_) return;
  if (engine_->forked()) {
    // As client's destructor: it is the parent's, and must not be destroyed here.
    static_cast<void>(new (std::nothrow) std::shared_ptr<detail::blocking_driver>{std::move(connection_)});
  } else {
    engine_->give_back(std::move(connection_), state_);
  }
}

reply exclusive_connection::execute(const command& one, const call_options& how) {
  reply answer;
  run({&one, 1}, {&answer, 1}, how);
  if (answer.is_error()) throw server_error{one.name(), answer.error_text()};
  return answer;
}

std::vector<reply> exclusive_connection::execute_all(std::span<const command> commands, const call_options& how) {
  std::vector<reply> replies(commands.size());
  if (!commands.empty()) run(commands, replies, how);
  return replies;
}

void exclusive_connection::run(std::span<const command> commands, std::span<reply> replies, const call_options& how) {
  engine_->check(commands, detail::ownership::exclusive);
  // What opens something is noted before, and what ends it when it has: a call may fail in between.
  for (const command& each : commands) detail::note_opening(each, state_);
  engine_->run_exclusive(*connection_, commands, replies, how);
  for (std::size_t i = 0; i < commands.size(); ++i) detail::note_end(commands[i], replies[i], state_);
}

}  // namespace tenantry
