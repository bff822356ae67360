#include "limiting/limiter_state.hpp"

#include <tenantry/error.hpp>
#include <tenantry/rate_limiter.hpp>

#include <utility>

namespace tenantry {

using detail::limit_operation;
using detail::limit_rules;
using detail::limiter_state;

const on_failure on_failure::fail_open{decision_source::fail_open};
const on_failure on_failure::fail_closed{decision_source::fail_closed};

on_failure on_failure::insurance(unsigned instances) {
  if (instances == 0) throw invalid_option{"on_failure::insurance: 0 instances"};
  return on_failure{decision_source::insurance, instances};
}

rate_limiter::rate_limiter(const client& redis, on_failure if_away, rate_limit limit, limiter_options how)
    : rate_limiter{redis, if_away, {limit}, how} {}

rate_limiter::rate_limiter(const client& redis, on_failure if_away, std::initializer_list<rate_limit> limits,
                           limiter_options how)
    : state_{std::make_unique<limiter_state>(redis, if_away, limit_rules{limits, how.placement}, how)} {}

rate_limiter::~rate_limiter() {
  if (state_->forked()) detail::leave_to_parent(std::move(state_));
}

decision rate_limiter::acquire(const tenant_id& tenant, std::string_view path, std::uint64_t cost) {
  return state_->acquire(tenant, path, cost);
}
task<decision> rate_limiter::async_acquire(const tenant_id& tenant, std::string path, std::uint64_t cost) {
  return state_->async_acquire(tenant, std::move(path), cost);
}
decision rate_limiter::wait(const tenant_id& tenant, std::string_view path, std::chrono::milliseconds at_most,
                            std::uint64_t cost, const std::stop_token& stop) {
  return state_->wait(tenant, path, at_most, cost, stop);
}
task<decision> rate_limiter::async_wait(const tenant_id& tenant, std::string path, std::chrono::milliseconds at_most,
                                        std::uint64_t cost, std::stop_token stop) {
  return state_->async_wait(tenant, std::move(path), at_most, cost, std::move(stop));
}
decision rate_limiter::acquire_up_to(const tenant_id& tenant, std::string_view path, std::uint64_t most) {
  return state_->ask(limit_operation::most, tenant, path, most);
}
task<decision> rate_limiter::async_acquire_up_to(const tenant_id& tenant, std::string path, std::uint64_t most) {
  return state_->async_ask(limit_operation::most, tenant, std::move(path), most);
}
decision rate_limiter::peek(const tenant_id& tenant, std::string_view path, std::uint64_t cost) {
  return state_->ask(limit_operation::peek, tenant, path, cost);
}
task<decision> rate_limiter::async_peek(const tenant_id& tenant, std::string path, std::uint64_t cost) {
  return state_->async_ask(limit_operation::peek, tenant, std::move(path), cost);
}
decision rate_limiter::refund(const tenant_id& tenant, std::string_view path, std::uint64_t cost) {
  return state_->ask(limit_operation::refund, tenant, path, cost);
}
task<decision> rate_limiter::async_refund(const tenant_id& tenant, std::string path, std::uint64_t cost) {
  return state_->async_ask(limit_operation::refund, tenant, std::move(path), cost);
}

void rate_limiter::reset(const tenant_id& tenant, std::string_view path) { state_->reset(tenant, path); }
task<void> rate_limiter::async_reset(const tenant_id& tenant, std::string path) {
  return state_->async_reset(tenant, std::move(path));
}

void rate_limiter::set_limits(std::vector<rate_limit> limits) { state_->set_limits(std::move(limits)); }

limit_kind rate_limiter::kind() const noexcept { return state_->rules().kind(); }
limiter_counters rate_limiter::counters() const noexcept { return state_->counters(); }

}  // namespace tenantry
