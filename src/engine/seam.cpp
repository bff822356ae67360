#include "engine/seam.hpp"

#include "engine/engine.hpp"
#include "engine/notify.hpp"

#include <tenantry/error.hpp>

#include <optional>
#include <utility>
#include <vector>

namespace tenantry::detail {

breaker& seam::circuit_breaker(const caller& of) noexcept { return of.engine_->circuit_breaker(); }

void seam::check_breaker(const caller& of) {
  check_not_forked(of);
  if (circuit_breaker(of).allow(std::chrono::steady_clock::now())) return;
  throw connection_error{errc::unreachable, execution::not_sent, "the circuit breaker is open"};
}

std::unique_ptr<push_connection> seam::open_push_connection(const caller& of, const push_options& how,
                                                            push_connection::listener told) {
  engine& on = *of.engine_;
  // The listener lives as long as the connection.
  auto place = std::make_shared<fork_safe_list<push_connection>::place>(on.push_connections());
  auto made = std::make_unique<push_connection>(on.options(), on.loop(), how,
                                                [told = std::move(told), place](push_event& what) { told(what); });
  place->set(*made);
  return made;
}

std::vector<reply> seam::execute_tracked(const caller& of, std::span<const command> commands) {
  std::vector<reply> replies(commands.size());
  of.engine_->run(commands, replies, of.options_, of.engine_->deadline_of(of.options_), traffic::tracked);
  return replies;
}

task<std::vector<reply>> seam::async_execute_tracked(const caller& of, std::vector<command> commands) {
  std::vector<reply> replies(commands.size());
  return of.engine_->async_run(std::move(commands), std::move(replies), of.options_, std::nullopt, resumed::by_executor,
                               traffic::tracked);
}

void seam::watch_tracked_lanes(const caller& of) { of.engine_->watch_lanes(); }

const std::atomic<std::uint64_t>& seam::lost_tracked_lanes(const caller& of) noexcept {
  return of.engine_->lost_connections();
}

std::chrono::steady_clock::time_point seam::deadline(const caller& of) { return of.engine_->deadline_of(of.options_); }

bool seam::observed(const caller& of) noexcept { return bool{of.engine_->options().observer}; }

void seam::notify(const caller& of, std::string_view name, std::initializer_list<event_field> fields) noexcept {
  detail::notify(of.engine_->options().observer, name, fields);
}

void seam::check_open(const caller& of) { of.engine_->check_open(); }

void seam::check_not_forked(const caller& of) { of.engine_->check_not_forked(); }

bool seam::closed(const caller& of) noexcept { return of.engine_->closed(); }

bool seam::forked(const caller& of) noexcept { return of.engine_->forked(); }

shared_parts& seam::parts_of(const caller& of) noexcept { return of.engine_->parts(); }

std::weak_ptr<const void> seam::life(const caller& of) noexcept { return parts_of(of).life; }

task<bool> seam::pause(const caller& of, std::chrono::steady_clock::time_point until, std::stop_token stop) {
  return of.engine_->async_pause(until, std::move(stop));
}

task<bool> seam::idle(const caller& of, std::chrono::steady_clock::time_point until, std::stop_token stop) {
  return of.engine_->async_pause(until, std::move(stop), resumed::by_executor_from_idle);
}

task<bool> seam::pause_apart(const caller& of, std::chrono::steady_clock::time_point until, std::stop_token stop) {
  return of.engine_->async_pause(until, std::move(stop), resumed::by_io_thread);
}

task<std::vector<reply>> seam::execute_apart(const caller& of, std::vector<command> commands) {
  std::vector<reply> replies(commands.size());
  return of.engine_->async_run(std::move(commands), std::move(replies), of.options_, std::nullopt,
                               resumed::by_io_thread);
}

}  // namespace tenantry::detail
