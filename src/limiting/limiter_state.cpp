#include "limiting/limiter_state.hpp"

#include "engine/seam.hpp"

#include <tenantry/error.hpp>

#include <array>
#include <chrono>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

const limiter_options& checked(const limiter_options& how) {
  if (how.timeout < 1ms) throw invalid_option{"limiter_options.timeout is less than 1 ms"};
  return how;
}

}  // namespace

limiter_state::limiter_state(const client& redis, on_failure if_away, limit_rules rules, const limiter_options& how)
    : redis_{redis},
      if_away_{if_away},
      how_{checked(how)},
      now_{rules_.emplace_back(std::make_unique<const limit_rules>(std::move(rules))).get()} {}

void limiter_state::set_limits(std::vector<rate_limit> limits) {
  const std::lock_guard held{mutex_};
  rules_.push_back(std::make_unique<const limit_rules>(rules().with(std::move(limits))));
  now_.store(rules_.back().get(), std::memory_order_release);
}

/// What Redis may have counted is not sent again.
caller limiter_state::through(const tenant_id& tenant) const {
  return redis_.with({.timeout = how_.timeout, .retry = retry::never, .tenant = &tenant});
}

void limiter_state::check_breaker() const {
  if (seam::circuit_breaker(redis_).allow(clock::now())) return;
  throw connection_error{errc::unreachable, execution::not_sent, "the circuit breaker is open"};
}

decision limiter_state::without_redis(const limit_rules& by, limit_operation what, const std::string& key,
                                      std::uint64_t cost, const error& why) {
  decision made;
  if (if_away_.source() == decision_source::insurance) {
    const auto share = local_limits::share_of(by.limits(), if_away_.instances());
    made = local_.decide(what, key, cost, share, clock::now());
  } else {
    const bool counts = what == limit_operation::take || what == limit_operation::most || what == limit_operation::peek;
    made.cost = cost;
    made.source = if_away_.source();
    made.allowed = made.source == decision_source::fail_open || !counts;
    made.granted = made.allowed && counts ? cost : 0;
    if (!made.allowed) made.retry_after = 1s;
  }
  made.failure = std::make_shared<const error>(why);
  return made;
}

decision limiter_state::decide(limit_operation what, const tenant_id& tenant, std::string_view path,
                               std::uint64_t cost) {
  const limit_rules& by = rules();
  const std::string key = by.key(tenant, path);
  const std::string units = cost_word(cost);
  try {
    check_breaker();
    const std::array<std::string_view, 1> keys{key};
    return by.read(what, cost, through(tenant).eval(by.which(), keys, by.arguments(what, units)));
  } catch (const error& why) {
    return without_redis(by, what, key, cost, why);
  }
}

task<decision> limiter_state::async_decide(limit_operation what, tenant_id tenant, std::string path,
                                           std::uint64_t cost) {
  const limit_rules& by = rules();
  const std::string key = by.key(tenant, path);
  const std::string units = cost_word(cost);
  std::optional<error> failed;
  try {
    check_breaker();
    const caller through_it = through(tenant);
    std::vector<std::string> keys;
    keys.push_back(key);
    const auto words = by.arguments(what, units);
    std::vector<std::string> arguments{words.begin(), words.end()};
    auto asked = through_it.async_eval(by.which(), std::move(keys), std::move(arguments));
    const reply answer = co_await std::move(asked);
    co_return by.read(what, cost, answer);
  } catch (const error& why) {
    failed.emplace(why);
  }
  co_return without_redis(by, what, key, cost, *failed);
}

void limiter_state::reset(const tenant_id& tenant, std::string_view path) {
  const std::string key = rules().key(tenant, path);
  local_.forget(key);
  redis_.with({.timeout = how_.timeout, .retry = retry::idempotent, .tenant = &tenant}).execute("UNLINK", key);
}

task<void> limiter_state::async_reset(tenant_id tenant, std::string path) {
  const std::string key = rules().key(tenant, path);
  local_.forget(key);
  const caller by = redis_.with({.timeout = how_.timeout, .retry = retry::idempotent, .tenant = &tenant});
  auto sent = by.async_execute("UNLINK", key);
  co_await std::move(sent);
}

}  // namespace tenantry::detail
