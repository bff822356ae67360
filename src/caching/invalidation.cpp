#include "caching/invalidation_queue.hpp"
#include "caching/near_write.hpp"
#include "caching/request.hpp"
#include "caching/scripts.hpp"
#include "caching/stamp.hpp"
#include "caching/stamp_life.hpp"
#include "engine/seam.hpp"

#include <tenantry/error.hpp>
#include <tenantry/invalidator.hpp>

#include <chrono>
#include <exception>
#include <optional>
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

/// Queues what could not be sent, where that may be; else throws why.
delivery settle(const client& redis, undelivered if_away, detail::invalidation&& what, const std::exception_ptr& why) {
  try {
    std::rethrow_exception(why);
  } catch (const error& fault) {
    if (if_away == undelivered::fail || !detail::passes_by_itself(fault)) throw;
    if (!detail::invalidation_queue::of(redis)->add(std::move(what), fault)) throw;
  }
  return delivery::queued;
}

/// The tries of a call, under one deadline. Where the connection was lost there is another one, with a new stamp.
class tries {
 public:
  tries(const client& redis, const detail::invalidation& what)
      : redis_{redis}, what_{what}, deadline_{detail::seam::deadline(redis)} {}

  [[nodiscard]] caller by() const { return redis_.with({.timeout = left_, .tenant = &what_.tenant}); }
  [[nodiscard]] request next() const { return what_.requests().front(); }
  /// Whether there is another one after this failure.
  bool again(const error& why) {
    if (why.code() != errc::connection_lost || std::exchange(repeated_, true)) return false;
    left_ = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - std::chrono::steady_clock::now());
    return left_->count() > 0;
  }

 private:
  const client& redis_;
  const detail::invalidation& what_;
  const std::chrono::steady_clock::time_point deadline_;
  std::optional<std::chrono::milliseconds> left_;
  bool repeated_ = false;
};

void try_once(const caller& by, const request& what) {
  try {
    by.execute(what.encoded(false));
  } catch (const server_error& unknown) {
    if (unknown.code() != errc::no_script) throw;
    by.execute(what.encoded(true));
  }
}

task<void> async_try_once(caller by, request what) {
  auto sent = by.async_execute_all({what.encoded(false)});
  std::vector<reply> replies = co_await std::move(sent);
  if (replies[0].is_error() && replies[0].error_text().starts_with("NOSCRIPT")) {
    auto whole = by.async_execute_all({what.encoded(true)});
    replies = co_await std::move(whole);
  }
  if (replies[0].is_error()) throw server_error{what.name(), replies[0].error_text()};
}

delivery send(const client& redis, undelivered if_away, detail::invalidation what) {
  const detail::near_write writing{what.written};
  tries all{redis, what};
  for (bool done = false; !done;) {
    try {
      if (if_away == undelivered::queue) detail::seam::check_breaker(redis);
      try_once(all.by(), all.next());
      done = true;
    } catch (const error& why) {
      if (!all.again(why)) return settle(redis, if_away, std::move(what), std::current_exception());
    }
  }
  detail::invalidation_queue::of(redis)->note(what);
  return delivery::done;
}

task<delivery> async_send(const client& redis, undelivered if_away, detail::invalidation what) {
  const detail::near_write writing{what.written};
  tries all{redis, what};
  for (bool done = false; !done;) {
    std::exception_ptr failed;
    try {
      if (if_away == undelivered::queue) detail::seam::check_breaker(redis);
      auto trying = async_try_once(all.by(), all.next());
      co_await std::move(trying);
      done = true;
    } catch (const error& why) {
      if (!all.again(why)) failed = std::current_exception();
    }
    if (failed) co_return settle(redis, if_away, std::move(what), failed);
  }
  detail::invalidation_queue::of(redis)->note(what);
  co_return delivery::done;
}

/// `how` makes a request with a new stamp.
template <class How>
detail::invalidation of(const tenant_id& tenant, const std::string& name, How how) {
  return {.tenant = tenant, .key = {}, .name = name, .written = {detail::stamp_key(tenant)}, .requests = [how] {
            return std::vector<request>{how()};
          }};
}
template <class How>
detail::invalidation of(const tag& what, const std::string& kind, How how) {
  const std::string name = detail::tag_stamp_key(what.tenant(), what.name());
  detail::invalidation all = of(what.tenant(), kind + name, how);
  all.written.push_back(name);
  return all;
}
detail::invalidation hard(const tenant_id& tenant) {
  return of(tenant, "invalidate " + tenant.str(), [tenant] { return new_stamp_of(tenant); });
}
detail::invalidation soft(const tenant_id& tenant) {
  return of(tenant, "expire " + tenant.str(), [tenant] { return new_soft_token_of(tenant); });
}
detail::invalidation hard(const tag& what) {
  return of(what, "invalidate ", [what] { return new_stamp_of(what, "hard"); });
}
detail::invalidation soft(const tag& what) {
  return of(what, "expire ", [what] { return new_stamp_of(what, "soft"); });
}

}  // namespace

delivery invalidator::invalidate(const tenant_id& tenant) const { return send(*redis_, undelivered_, hard(tenant)); }
delivery invalidator::invalidate(const tag& what) const { return send(*redis_, undelivered_, hard(what)); }
delivery invalidator::expire(const tenant_id& tenant) const { return send(*redis_, undelivered_, soft(tenant)); }
delivery invalidator::expire(const tag& what) const { return send(*redis_, undelivered_, soft(what)); }

task<delivery> invalidator::async_invalidate(const tenant_id& tenant) const {
  return async_send(*redis_, undelivered_, hard(tenant));
}
task<delivery> invalidator::async_invalidate(const tag& what) const {
  return async_send(*redis_, undelivered_, hard(what));
}
task<delivery> invalidator::async_expire(const tenant_id& tenant) const {
  return async_send(*redis_, undelivered_, soft(tenant));
}
task<delivery> invalidator::async_expire(const tag& what) const {
  return async_send(*redis_, undelivered_, soft(what));
}

std::size_t invalidator::queued() const {
  return detail::seam::forked(*redis_) ? 0 : detail::invalidation_queue::of(*redis_)->size();
}

}  // namespace tenantry
