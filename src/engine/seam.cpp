#include "engine/seam.hpp"

#include "engine/engine.hpp"

#include <utility>

namespace tenantry::detail {

breaker& seam::circuit_breaker(const caller& of) noexcept { return of.engine_->circuit_breaker(); }

std::unique_ptr<push_connection> seam::open_push_connection(const caller& of, const push_options& how,
                                                            push_connection::listener told) {
  engine& on = *of.engine_;
  return std::make_unique<push_connection>(on.options(), on.loop(), how, std::move(told));
}

bool seam::forked(const caller& of) noexcept { return of.engine_->forked(); }

shared_parts& seam::parts_of(const caller& of) noexcept { return of.engine_->parts(); }

task<bool> seam::pause(const caller& of, std::chrono::steady_clock::time_point until, std::stop_token stop) {
  return of.engine_->async_pause(until, std::move(stop));
}

}  // namespace tenantry::detail
