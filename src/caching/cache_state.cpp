#include "caching/cache_state.hpp"

#include <tenantry/detail/ttl.hpp>
#include <tenantry/error.hpp>

#include <algorithm>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

/// Redis adds the time of day to a time to live, and refuses what overflows.
constexpr std::chrono::milliseconds longest_ttl = std::chrono::years{100};
constexpr std::size_t most_notes = 64;
constexpr std::size_t least_near_bytes = std::size_t{64} << 10U;
constexpr std::size_t most_near_bytes = std::size_t{1} << 40U;

void check(std::chrono::milliseconds value, std::chrono::milliseconds least, const char* field) {
  if (value < least)
    throw invalid_option{std::string{"cache_options."} + field + " is less than " + (least > 0ms ? "1 ms" : "0")};
  if (value > longest_ttl) throw invalid_option{std::string{"cache_options."} + field + " is more than 100 years"};
}

const cache_options& checked(const cache_options& options) {
  check(options.ttl, 1ms, "ttl");
  check(options.stale_for, 0ms, "stale_for");
  if (options.negative_ttl) check(*options.negative_ttl, 1ms, "negative_ttl");
  check(options.lease_ttl, 1ms, "lease_ttl");
  check(options.lease_wait, 0ms, "lease_wait");
  check(options.load_timeout, 1ms, "load_timeout");
  check(options.failure_throttle, 0ms, "failure_throttle");
  if (!(options.jitter >= 0.0 && options.jitter < 1.0)) {
    throw invalid_option{"cache_options.jitter is not from 0 to below 1"};
  }
  if (!(options.refresh_ahead >= 0.0 && options.refresh_ahead < 1.0)) {
    throw invalid_option{"cache_options.refresh_ahead is not from 0 to below 1"};
  }
  if (options.redis_timeout && *options.redis_timeout < 1ms) {
    throw invalid_option{"cache_options.redis_timeout is less than 1 ms"};
  }
  if (!(options.refresh_beta >= 0.0 && options.refresh_beta <= 1000.0)) {
    throw invalid_option{"cache_options.refresh_beta is not from 0 to 1000"};
  }
  if (options.soft_timeout) {
    check(*options.soft_timeout, 1ms, "soft_timeout");
    if (!options.executor) throw invalid_option{"cache_options.soft_timeout needs an executor"};
    if (options.stale_for == 0ms) throw invalid_option{"cache_options.soft_timeout needs stale_for"};
  }
  if (options.hard_timeout) {
    check(*options.hard_timeout, 1ms, "hard_timeout");
    if (!options.executor) throw invalid_option{"cache_options.hard_timeout needs an executor"};
  }
  if (options.near) {
    check(options.near->max_age, 1ms, "near.max_age");
    if (options.near->max_age > 24h) throw invalid_option{"cache_options.near.max_age is more than 1 day"};
    if (options.near->max_bytes < least_near_bytes) {
      throw invalid_option{"cache_options.near.max_bytes is less than 64 KiB"};
    }
    if (options.near->max_bytes > most_near_bytes) {
      throw invalid_option{"cache_options.near.max_bytes is more than 1 TiB"};
    }
  }
  if (options.envelope == envelope::bare) {
    if (options.stale_for > 0ms) throw invalid_option{"cache_options.stale_for needs envelope::header"};
    if (options.refresh_ahead > 0) throw invalid_option{"cache_options.refresh_ahead needs envelope::header"};
    if (options.refresh_beta > 0) throw invalid_option{"cache_options.refresh_beta needs envelope::header"};
    if (options.negative_ttl) throw invalid_option{"cache_options.negative_ttl needs envelope::header"};
  }
  return options;
}

fetch_rules rules_of(const cache_options& options) {
  return {.stale_for = options.stale_for,
          .refresh_ahead = options.refresh_ahead,
          .refresh_beta = options.refresh_beta,
          .lease_ttl = options.lease_ttl,
          .lease_wait = options.lease_wait,
          .soft_timeout = options.soft_timeout,
          .hard_timeout = options.hard_timeout,
          .failure_throttle = options.failure_throttle,
          .version = options.version,
          .bare = options.envelope == envelope::bare,
          .near = options.near.has_value()};
}

bool is_unknown_script(const reply& answer) noexcept {
  return answer.is_error() && answer.error_text().starts_with("NOSCRIPT");
}

}  // namespace

cache_state::cache_state(const client& redis, const cache_options& options, value_codec codec)
    : redis_{redis},
      options_{checked(options)},
      rules_{rules_of(options)},
      codec_{std::move(codec)},
      wakeups_{wakeups::of(redis)},
      keeper_{lease_keeper::of(redis)},
      undelivered_{invalidation_queue::of(redis)},
      near_{options_.near ? std::make_unique<near_cache>(redis, *options_.near, rules_.bare, codec_) : nullptr} {}

caller cache_state::through(const tenant_id& tenant) const {
  return redis_.with({.timeout = options_.redis_timeout, .retry = retry::idempotent, .tenant = &tenant});
}

caller cache_state::through_any() const {
  return redis_.with({.timeout = options_.redis_timeout, .retry = retry::idempotent});
}

void cache_state::check_breaker() const { seam::check_breaker(redis_); }

/// A tracked read stands behind CLIENT CACHING YES, which is for the next command only, and all of them behind CLIENT
/// TRACKING, until the server has agreed to that. Where the connection is another one than that on which it has, the
/// reads are not tracked, and of an epoch that is over.
cache_state::parcel cache_state::pack(face lane, std::span<const request> requests, bool whole) {
  using part = parcel::part;
  parcel all;
  all.commands.reserve(requests.size() + 4);
  const auto add = [&all](command one, part what) {
    all.commands.push_back(std::move(one));
    all.parts.push_back(what);
  };
  std::optional<std::int64_t> redirect;  // nothing: not tracked
  if (near_ && std::ranges::any_of(requests, &request::is_tracked)) {
    all.epoch = near_->tracking().epoch();
    redirect = near_->tracking().redirect();
    all.redirect = redirect.value_or(0);
  }
  for (const request& each : requests) {
    if (redirect && each.is_tracked()) {
      if (!std::exchange(all.tracked, true) && !near_->tracking().agreed(lane, all.epoch)) {
        add(command{"CLIENT", "TRACKING", "ON", "REDIRECT", *redirect, "OPTIN"}, part::tracking);
      }
      add(command{"CLIENT", "CACHING", "YES"}, part::caching);
    }
    add(each.encoded(whole), part::asked);
  }
  if (whole) return all;
  const std::lock_guard held{mutex_};
  for (const request& each : notes_) add(each.encoded(true), part::note);
  notes_.clear();
  return all;
}

bool cache_state::unpack(face lane, const parcel& sent, std::vector<reply> replies, answers& to) {
  to.tracked = sent.tracked;
  to.replies.clear();
  bool known = true;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    switch (sent.parts[i]) {
      case parcel::part::asked:
        known = known && !is_unknown_script(replies[i]);
        to.replies.push_back(std::move(replies[i]));
        break;
      case parcel::part::tracking:
        if (replies[i].is_error()) {
          to.tracked = false;  // it may go on to tell another connection, which is gone
          near_->tracking().refused(replies[i].error_text(), sent.redirect);
        } else {
          near_->tracking().agree(lane, sent.epoch);
        }
        break;
      case parcel::part::caching:
        if (replies[i].is_error() && std::exchange(to.tracked, false)) {
          near_->tracking().refused(replies[i].error_text(), sent.redirect);
        }
        break;
      case parcel::part::note:
        break;
    }
  }
  return known;
}

answers cache_state::send(const caller& by, std::span<const request> requests) {
  answers all;
  for (const bool whole : {false, true}) {
    const parcel sent = pack(face::blocking, requests, whole);
    auto replies = sent.tracked ? seam::execute_tracked(by, sent.commands) : by.execute_all(sent.commands);
    if (unpack(face::blocking, sent, std::move(replies), all)) break;
  }
  return all;
}

task<answers> cache_state::async_send(const caller& by, std::span<const request> requests) {
  answers all;
  for (const bool whole : {false, true}) {
    const parcel sent = pack(face::coroutine, requests, whole);
    auto sending = sent.tracked ? seam::async_execute_tracked(by, sent.commands) : by.async_execute_all(sent.commands);
    std::vector<reply> replies = co_await std::move(sending);
    if (unpack(face::coroutine, sent, std::move(replies), all)) break;
  }
  co_return all;
}

void cache_state::note(request what) {
  const std::lock_guard held{mutex_};
  if (notes_.size() < most_notes) notes_.push_back(std::move(what));
}

any_value cache_state::decode(std::string_view bytes) {
  any_value value = codec_.decode(bytes);
  if (!value) count(cache_event::undecodable);
  return value;
}

std::string cache_state::encode(const key& k, const any_value& value) {
  std::string why = "the codec refused the value";
  try {
    return codec_.encode(value.get());
  } catch (const std::exception& fault) {
    why = fault.what();
  } catch (...) {  // whatever a codec throws, the value has no bytes
    why += " with an exception of its own kind";
  }
  count(cache_event::encode_failure);
  throw error{errc::encode, execution::not_sent, k.str() + ": " + why};
}

load_outcome cache_state::outcome_of(const any_value& value, std::optional<std::chrono::milliseconds> chosen) const {
  load_outcome outcome{.absent = value == nullptr};
  const auto ttl = chosen ? chosen : outcome.absent ? options_.negative_ttl : options_.ttl;
  outcome.storable = ttl && *ttl > 0ms && (!outcome.absent || options_.negative_ttl);
  if (!outcome.storable) return outcome;
  const double unit = options_.jitter > 0 ? random_unit() : 0.0;
  outcome.ttl = jittered(std::min(*ttl, longest_ttl), options_.jitter, unit);
  if (!outcome.absent) outcome.stale_for = options_.stale_for;
  return outcome;
}

void cache_state::tell(std::string_view name, const tenant_id& tenant) const noexcept {
  seam::notify(redis_, name, {{.name = "tenant", .value = std::string_view{tenant.str()}}});
}

void cache_state::tell(std::string_view name, const tenant_id& tenant, event_field also) const noexcept {
  seam::notify(redis_, name, {{.name = "tenant", .value = std::string_view{tenant.str()}}, also});
}

void cache_state::tell_load_failed(const tenant_id& tenant, bool in_background, const std::exception_ptr& what) const {
  if (!seam::observed(redis_)) return;
  std::string detail = "an exception of its own kind";
  try {
    std::rethrow_exception(what);
  } catch (const std::exception& known) {
    detail = known.what();
  } catch (...) {  // has nothing to say
  }
  seam::notify(redis_, events::load_failed,
               {{.name = "tenant", .value = std::string_view{tenant.str()}},
                {.name = "background", .value = std::int64_t{in_background}},
                {.name = "detail", .value = std::string_view{detail}}});
}

cache_stats cache_state::stats() const noexcept {
  const auto value = [this](cache_event what) {
    return counters_[static_cast<std::size_t>(what)].load(std::memory_order_relaxed);
  };
  return {.hits = value(cache_event::hit),
          .absent = value(cache_event::absent),
          .misses = value(cache_event::miss),
          .stale = value(cache_event::stale),
          .undecodable = value(cache_event::undecodable),
          .wrong_type = value(cache_event::wrong_type),
          .read_failures = value(cache_event::read_failure),
          .loads = value(cache_event::load),
          .load_failures = value(cache_event::load_failure),
          .throttled = value(cache_event::throttled),
          .timeouts = value(cache_event::timeout),
          .waits = value(cache_event::wait),
          .refreshes = value(cache_event::refresh),
          .stores = value(cache_event::store),
          .store_failures = value(cache_event::store_failure),
          .encode_failures = value(cache_event::encode_failure),
          .fenced = value(cache_event::fenced)};
}

}  // namespace tenantry::detail
