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
          .bare = options.envelope == envelope::bare};
}

bool knows_all_scripts(std::span<const reply> replies) noexcept {
  return std::ranges::none_of(
      replies, [](const reply& each) { return each.is_error() && each.error_text().starts_with("NOSCRIPT"); });
}

}  // namespace

cache_state::cache_state(const client& redis, const cache_options& options, value_codec codec)
    : redis_{redis},
      options_{checked(options)},
      rules_{rules_of(options)},
      codec_{std::move(codec)},
      wakeups_{wakeups::of(redis)},
      keeper_{lease_keeper::of(redis)},
      undelivered_{invalidation_queue::of(redis)} {}

caller cache_state::through(const tenant_id& tenant) const {
  return redis_.with({.timeout = options_.redis_timeout, .retry = retry::idempotent, .tenant = &tenant});
}

caller cache_state::through_any() const {
  return redis_.with({.timeout = options_.redis_timeout, .retry = retry::idempotent});
}

void cache_state::check_breaker() const { seam::check_breaker(redis_); }

std::vector<command> cache_state::encoded(std::span<const request> requests, bool whole) {
  std::vector<command> commands;
  commands.reserve(requests.size());
  for (const request& each : requests) commands.push_back(each.encoded(whole));
  if (whole) return commands;
  const std::lock_guard held{mutex_};
  for (const request& each : notes_) commands.push_back(each.encoded(true));
  notes_.clear();
  return commands;
}

std::vector<reply> cache_state::send(const caller& by, std::span<const request> requests) {
  std::vector<reply> replies = by.execute_all(encoded(requests, false));
  replies.resize(requests.size());
  if (knows_all_scripts(replies)) return replies;
  return by.execute_all(encoded(requests, true));
}

task<std::vector<reply>> cache_state::async_send(const caller& by, std::span<const request> requests) {
  std::vector<reply> replies = co_await by.async_execute_all(encoded(requests, false));
  replies.resize(requests.size());
  if (knows_all_scripts(replies)) co_return replies;
  replies = co_await by.async_execute_all(encoded(requests, true));
  co_return replies;
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
