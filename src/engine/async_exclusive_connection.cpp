#include "engine/engine.hpp"
#include "engine/exclusive_lane.hpp"

#include <tenantry/exclusive_connection.hpp>

#include <cstddef>
#include <new>
#include <utility>

namespace tenantry {

async_exclusive_connection::async_exclusive_connection(detail::engine& engine,
                                                       std::shared_ptr<detail::exclusive_lane> lane) noexcept
    : engine_{&engine}, lane_{std::move(lane)} {}

async_exclusive_connection::async_exclusive_connection(async_exclusive_connection&& from) noexcept = default;

async_exclusive_connection& async_exclusive_connection::operator=(async_exclusive_connection&& from) noexcept {
  if (this == &from) return *this;
  give_back();
  engine_ = from.engine_;
  lane_ = std::move(from.lane_);
  return *this;
}

async_exclusive_connection::~async_exclusive_connection() { give_back(); }

void async_exclusive_connection::give_back() noexcept {
  if (!lane_) return;
  if (engine_->forked()) {
    // As client's destructor: it is the parent's, and must not be destroyed here.
    static_cast<void>(new (std::nothrow) std::shared_ptr<detail::exclusive_lane>{std::move(lane_)});
  } else {
    engine_->give_back(*std::exchange(lane_, nullptr));
  }
}

task<reply> async_exclusive_connection::async_execute(command one) {
  return engine_->async_run_exclusive(lane_, std::move(one), reply{}, {});
}

task<reply> async_exclusive_connection::async_execute(command one, const call_options& how) {
  return engine_->async_run_exclusive(lane_, std::move(one), reply{}, how);
}

task<std::vector<reply>> async_exclusive_connection::async_execute_all(std::vector<command> commands) {
  return async_execute_all(std::move(commands), {});
}

task<std::vector<reply>> async_exclusive_connection::async_execute_all(std::vector<command> commands,
                                                                       const call_options& how) {
  std::vector<reply> replies(commands.size());
  return engine_->async_run_exclusive(lane_, std::move(commands), std::move(replies), how);
}

}  // namespace tenantry
