// How a fetch waits for the load of somebody else, or for its own that goes on without it.

#include "caching/fetch_machine.hpp"

#include <algorithm>

namespace tenantry::detail {

fetch_step fetch_machine::begin_following(bool with_copy, bool redis_failed, time_point since) {
  own_load_ = follows_ = true;
  redis_failed_ = redis_failed;
  with_copy_ = with_copy;
  set_limit(since);
  wait_until_ = limit_at_;
  return fetch_step::await_flight;
}

/// All limits count from the first wait.
void fetch_machine::set_limit(time_point now) {
  if (!waits_since_) waits_since_ = now;
  if (!own_load_ && !patience_ends_) patience_ends_ = now + rules_.lease_wait;
  limit_ = limit::patience;
  limit_at_ = own_load_ ? time_point::max() : *patience_ends_;
  if (rules_.hard_timeout && *waits_since_ + *rules_.hard_timeout <= limit_at_) {
    limit_ = limit::hard;
    limit_at_ = *waits_since_ + *rules_.hard_timeout;
  }
  if (rules_.soft_timeout && with_copy_ && !soft_over_ && *waits_since_ + *rules_.soft_timeout < limit_at_) {
    limit_ = limit::soft;
    limit_at_ = *waits_since_ + *rules_.soft_timeout;
  }
}

fetch_step fetch_machine::busy(const std::string& lease, std::int64_t life, time_point now) {
  if (!lease.ends_with(stamp_->str())) return ask(asking::stamp, {request::of("GET", stamp_name_)});
  lease_ends_ = now + std::chrono::milliseconds{std::max<std::int64_t>(life, 0) + 1};
  identity_ = lease;
  may_lead_ = false;
  return fetch_step::board;
}

fetch_step fetch_machine::boarded(boarding how, time_point now) {
  with_copy_ = has_copy();
  switch (how) {
    case boarding::leads:
      leads_ = true;
      return fetch_step::load;
    case boarding::follows:
      follows_ = true;
      set_limit(now);
      wait_until_ = limit_at_;
      return fetch_step::await_flight;
    case boarding::may_not_wait:
      return load_without_lease();
    case boarding::nobody:
      break;
  }
  if (!may_wait_ || held_) return load_without_lease();  // while nothing is stored there is nothing to wait for
  set_limit(now);
  if (now >= limit_at_) return waited();
  wait_until_ = std::min(limit_at_, lease_ends_);
  return fetch_step::await_wakeup;
}

fetch_step fetch_machine::flight_ended(bool with_value) {
  if (with_value) return answer(fetch_source::flight);
  reason_ = fetch_failure::flight;
  last_resort_ = last_resort::give_up;
  return redis_failed_ ? give_up(reason_) : look_again();
}

/// The stamps may have changed meanwhile too.
fetch_step fetch_machine::woken(time_point now) { return now >= limit_at_ ? waited() : begin(); }

fetch_step fetch_machine::waited() {
  switch (limit_) {
    case limit::soft:
      last_resort_ = last_resort::wait;
      return look_again();
    case limit::hard:
      reason_ = fetch_failure::timeout;
      last_resort_ = last_resort::give_up;
      return redis_failed_ || rules_.stale_for.count() == 0 ? give_up(reason_) : look_again();
    case limit::patience:
      break;
  }
  last_resort_ = last_resort::load;
  return redis_failed_ || late_ ? load_without_lease() : look_again();
}

/// A second look has found nothing that may be served.
fetch_step fetch_machine::resort() {
  switch (last_resort_) {
    case last_resort::load:
      return load_late();
    case last_resort::wait:
      if (!may_wait_) return load_without_lease();  // others have not seen it wait meanwhile
      soft_over_ = true;
      last_look_ = false;
      last_resort_ = last_resort::give_up;
      if (!redis_failed_) failure_.reset();  // of a look that nobody needed
      if (!follows_) return begin();
      set_limit(*waits_since_);
      wait_until_ = limit_at_;
      return fetch_step::await_flight;
    case last_resort::give_up:
      break;
  }
  return give_up(reason_);
}

/// The load of others takes too long. Those of this process who have waited for it share another one, which is stored
/// nowhere; it began after the lease that all of them have seen.
fetch_step fetch_machine::load_late() {
  if (late_ || !may_wait_ || !patience_ends_) return load_without_lease();
  late_ = true;
  last_look_ = false;
  last_resort_ = last_resort::give_up;
  *patience_ends_ += rules_.lease_wait;
  identity_ = "late " + identity_;
  may_lead_ = true;
  return fetch_step::board;
}

/// What it gives is its own caller's, and nobody else's.
fetch_step fetch_machine::load_without_lease() {
  last_look_ = false;
  last_resort_ = last_resort::give_up;
  return fetch_step::load;
}

}  // namespace tenantry::detail
