#include "caching/request.hpp"
#include "caching/scripts.hpp"
#include "caching/stamp.hpp"
#include "caching/stamp_life.hpp"

#include <tenantry/error.hpp>
#include <tenantry/invalidator.hpp>

#include <string>
#include <utility>
#include <vector>

namespace tenantry {

namespace {

using detail::request;

std::string life() { return std::to_string(detail::stamp_life().count()); }

std::string fresh_stamp() { return std::string{detail::tenant_stamp::make().str()}; }

/// All three tokens at once: nothing has to be known of the old ones.
request new_stamp_of(const tenant_id& tenant) {
  return request::of("SET", detail::stamp_key(tenant), fresh_stamp(), "PX", life());
}

request new_soft_token_of(const tenant_id& tenant) {
  return request::run(detail::scripts::stamp_tenant(), {detail::stamp_key(tenant)}, {fresh_stamp(), life()});
}

request new_stamp_of(const tag& what, const char* how) {
  return request::run(detail::scripts::stamp_tag(),
                      {detail::stamp_key(what.tenant()), detail::tag_stamp_key(what.tenant(), what.name())},
                      {how, fresh_stamp(), std::string{detail::tag_stamp::make().str()}, life()});
}

/// Running it twice does no harm, so it is sent again where its outcome is unknown.
caller persistent(const client& redis, const tenant_id& tenant) {
  return redis.with({.retry = retry::idempotent, .tenant = &tenant});
}

void send(const client& redis, const tenant_id& tenant, const request& what) {
  const caller by = persistent(redis, tenant);
  try {
    by.execute(what.encoded(false));
  } catch (const server_error& unknown) {
    if (unknown.code() != errc::no_script) throw;
    by.execute(what.encoded(true));
  }
}

task<void> async_send(const client& redis, tenant_id tenant, request what) {
  const caller by = persistent(redis, tenant);
  bool known = true;
  try {
    auto sent = by.async_execute(what.encoded(false));
    co_await std::move(sent);
  } catch (const server_error& unknown) {
    if (unknown.code() != errc::no_script) throw;
    known = false;
  }
  if (known) co_return;
  auto whole = by.async_execute(what.encoded(true));
  co_await std::move(whole);
}

}  // namespace

void invalidator::invalidate(const tenant_id& tenant) const { send(*redis_, tenant, new_stamp_of(tenant)); }
void invalidator::invalidate(const tag& what) const { send(*redis_, what.tenant(), new_stamp_of(what, "hard")); }
void invalidator::expire(const tenant_id& tenant) const { send(*redis_, tenant, new_soft_token_of(tenant)); }
void invalidator::expire(const tag& what) const { send(*redis_, what.tenant(), new_stamp_of(what, "soft")); }

task<void> invalidator::async_invalidate(const tenant_id& tenant) const {
  return async_send(*redis_, tenant, new_stamp_of(tenant));
}
task<void> invalidator::async_invalidate(const tag& what) const {
  return async_send(*redis_, what.tenant(), new_stamp_of(what, "hard"));
}
task<void> invalidator::async_expire(const tenant_id& tenant) const {
  return async_send(*redis_, tenant, new_soft_token_of(tenant));
}
task<void> invalidator::async_expire(const tag& what) const {
  return async_send(*redis_, what.tenant(), new_stamp_of(what, "soft"));
}

}  // namespace tenantry
