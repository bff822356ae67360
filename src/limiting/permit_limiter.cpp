#include "limiting/permit_limiter.hpp"

#include "engine/seam.hpp"
#include "limiting/scripts.hpp"

#include <tenantry/detail/schema_args.hpp>
#include <tenantry/error.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <utility>
#include <vector>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr std::uint64_t most_permits = 1'000'000;

const concurrency_options& checked(const concurrency_options& how) {
  if (how.limit > most_permits) {
    throw invalid_option{"concurrency_options.limit is more than " + std::to_string(most_permits)};
  }
  if (how.lease < 100ms || how.lease > 24h) {
    throw invalid_option{"concurrency_options.lease is not from 100 ms to a day"};
  }
  if (how.timeout < 1ms) throw invalid_option{"concurrency_options.timeout is less than 1 ms"};
  return how;
}

std::string key_of(const tenant_id& tenant, std::string_view name) {
  if (name.empty()) throw invalid_name{"the name of a permit is empty"};
  return "permits:{" + tenant.str() + "}:" + encode_segment(name);
}

}  // namespace

/// One try to get a permit.
struct permit_limiter::request {
  request(const permit_limiter& of, const tenant_id& tenant, std::string_view name, leaving as)
      : lease{std::make_shared<permit_lease>(key_of(tenant, name), of.how_.lease)},
        how{as},
        limit{std::to_string(of.how_.limit)},
        life{std::to_string(of.how_.lease.count())} {}

  const std::shared_ptr<permit_lease> lease;
  const leaving how;
  const std::string limit;
  const std::string life;
};

permit_limiter::permit_limiter(const client& redis, on_failure if_away, const concurrency_options& how)
    : redis_{redis},
      if_away_{if_away},
      how_{checked(how)},
      gives_back_{redis.with({.timeout = how.timeout, .retry = retry::idempotent, .down = when_down::fail})},
      forks_{fork_count()},
      keeper_{permit_keeper::of(redis)},
      local_{local_permits::of(redis)} {}

permit_limiter::~permit_limiter() {
  if (!forked()) return;
  leave_to_parent(std::move(keeper_));
  leave_to_parent(std::move(local_));
}

permit permit_limiter::granted(const request& by, const reply& answer) {
  permit made;
  const bool taken = answer[0].integer() == 1;
  made.in_use_ = static_cast<std::uint64_t>(answer[1].integer());
  made.limit_ = how_.limit;
  if (!taken) return made;
  made.place_ = std::make_unique<permit_place>(shared_from_this(), by.lease, by.how);
  keeper_->keep(by.lease);
  std::uint64_t here = 0;
  if (auto seat = local_->take(by.lease->key, std::numeric_limits<std::uint64_t>::max(), here)) {
    made.place_->sit(std::move(*seat));
  }
  made.granted_ = true;
  return made;
}

permit permit_limiter::without_redis(const request& by, const error& why) {
  if (why.execution() == execution::unknown || why.execution() == execution::executed) keeper_->doubt(by.lease);
  permit made;
  made.failure_ = std::make_shared<const error>(why);
  made.source_ = if_away_.source();
  made.granted_ = made.source_ == decision_source::fail_open && how_.limit > 0;
  made.limit_ = how_.limit;
  if (made.source_ != decision_source::insurance) return made;
  if (forked()) return made;  // it cannot count without a lock, and denies
  made.limit_ = std::min(how_.limit, std::max<std::uint64_t>(how_.limit / if_away_.instances(), 1));
  if (auto seat = local_->take(by.lease->key, made.limit_, made.in_use_)) {
    made.place_ = std::make_unique<permit_place>(shared_from_this(), nullptr, by.how);
    made.place_->sit(std::move(*seat));
    made.granted_ = true;
  }
  return made;
}

permit permit_limiter::acquire(const tenant_id& tenant, std::string_view name) {
  const request by{*this, tenant, name, leaving::blocking};
  try {
    seam::check_breaker(redis_);
    // What Redis may have granted is not asked for again.
    const caller asks = redis_.with({.timeout = how_.timeout, .retry = retry::never, .tenant = &tenant});
    const reply answer = asks.eval(scripts::acquire_permit(), {by.lease->key}, {by.lease->member, by.limit, by.life});
    return granted(by, answer);
  } catch (const error& why) {
    return without_redis(by, why);
  }
}

task<permit> permit_limiter::async_acquire(std::shared_ptr<permit_limiter> self, tenant_id tenant, std::string name) {
  const request by{*self, tenant, name, leaving::by_keeper};
  std::optional<error> failed;
  try {
    seam::check_breaker(self->redis_);
    const caller asks = self->redis_.with({.timeout = self->how_.timeout, .retry = retry::never, .tenant = &tenant});
    std::vector<std::string> keys;
    keys.push_back(by.lease->key);
    std::vector<std::string> arguments;
    arguments.push_back(by.lease->member);
    arguments.push_back(by.limit);
    arguments.push_back(by.life);
    auto asked = asks.async_eval(scripts::acquire_permit(), std::move(keys), std::move(arguments));
    const reply answer = co_await std::move(asked);
    co_return self->granted(by, answer);
  } catch (const error& why) {
    failed.emplace(why);
  }
  co_return self->without_redis(by, *failed);
}

std::uint64_t permit_limiter::in_use(const tenant_id& tenant, std::string_view name) const {
  const std::string key = key_of(tenant, name);
  const caller asks = redis_.with({.timeout = how_.timeout, .retry = retry::idempotent, .tenant = &tenant});
  return static_cast<std::uint64_t>(asks.eval(scripts::permits_in_use(), {key}).integer());
}

task<std::uint64_t> permit_limiter::async_in_use(std::shared_ptr<permit_limiter> self, tenant_id tenant,
                                                 std::string name) {
  std::vector<std::string> keys;
  keys.push_back(key_of(tenant, name));
  const caller asks = self->redis_.with({.timeout = self->how_.timeout, .retry = retry::idempotent, .tenant = &tenant});
  auto asked = asks.async_eval(scripts::permits_in_use(), std::move(keys));
  const reply answer = co_await std::move(asked);
  co_return static_cast<std::uint64_t>(answer.integer());
}

permit_place::permit_place(std::shared_ptr<permit_limiter> of, std::shared_ptr<permit_lease> lease,
                           leaving how) noexcept
    : of_{std::move(of)}, lease_{std::move(lease)}, how_{how} {}

bool permit_place::lost() const noexcept { return lease_ && (lease_->gone || clock::now() >= lease_->until.load()); }

void permit_place::leave() noexcept {
  if (of_->forked()) {
    seat_.abandon();  // the parent has it, and locks may be held for ever
    return;
  }
  seat_.leave();
  const auto lease = std::move(lease_);
  if (!lease || lease->gone) return;
  if (how_ == leaving::blocking) {
    of_->keeper_->release_by(of_->gives_back_, lease);
  } else {
    of_->keeper_->release(lease);
  }
}

task<void> permit_place::async_leave(std::unique_ptr<permit_place> self) {
  if (self->of_->forked() || !self->lease_) co_return;
  self->seat_.leave();
  auto lease = std::move(self->lease_);
  self->lease_ = nullptr;
  auto giving_back = permit_keeper::async_release(self->of_->keeper_, self->of_->gives_back_, std::move(lease));
  co_await std::move(giving_back);
}

}  // namespace tenantry::detail
