#include "limiting/permit_limiter.hpp"

#include <tenantry/concurrency_limiter.hpp>

#include <utility>

namespace tenantry {

using detail::permit_limiter;
using detail::permit_place;

namespace {

task<void> nothing() { co_return; }

}  // namespace

permit::permit() noexcept = default;
permit::~permit() = default;

permit::permit(permit&& from) noexcept
    : place_{std::move(from.place_)},
      granted_{std::exchange(from.granted_, false)},
      source_{from.source_},
      in_use_{from.in_use_},
      limit_{from.limit_},
      failure_{std::move(from.failure_)} {}

permit& permit::operator=(permit&& from) noexcept {
  if (this == &from) return *this;
  place_ = std::move(from.place_);
  granted_ = std::exchange(from.granted_, false);
  source_ = from.source_;
  in_use_ = from.in_use_;
  limit_ = from.limit_;
  failure_ = std::move(from.failure_);
  return *this;
}

bool permit::lost() const noexcept { return place_ && place_->lost(); }

void permit::release() noexcept {
  granted_ = false;
  place_.reset();
}

task<void> permit::async_release() {
  granted_ = false;
  return place_ ? permit_place::async_leave(std::move(place_)) : nothing();
}

concurrency_limiter::concurrency_limiter(const client& redis, on_failure if_away, concurrency_options how)
    : state_{std::make_shared<permit_limiter>(redis, if_away, how)} {}

concurrency_limiter::~concurrency_limiter() = default;

permit concurrency_limiter::acquire(const tenant_id& tenant, std::string_view name) {
  return state_->acquire(tenant, name);
}
task<permit> concurrency_limiter::async_acquire(const tenant_id& tenant, std::string name) {
  return permit_limiter::async_acquire(state_, tenant, std::move(name));
}

std::uint64_t concurrency_limiter::in_use(const tenant_id& tenant, std::string_view name) {
  return state_->in_use(tenant, name);
}
task<std::uint64_t> concurrency_limiter::async_in_use(const tenant_id& tenant, std::string name) {
  return permit_limiter::async_in_use(state_, tenant, std::move(name));
}

}  // namespace tenantry
