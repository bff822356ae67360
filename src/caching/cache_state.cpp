#include "caching/cache_state.hpp"

#include "caching/scripts.hpp"
#include "caching/server_time.hpp"
#include "caching/stamp_life.hpp"

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
  if (options.envelope == envelope::bare) {
    if (options.stale_for > 0ms) throw invalid_option{"cache_options.stale_for needs envelope::header"};
    if (options.refresh_ahead > 0) throw invalid_option{"cache_options.refresh_ahead needs envelope::header"};
    if (options.negative_ttl) throw invalid_option{"cache_options.negative_ttl needs envelope::header"};
  }
  return options;
}

fetch_rules rules_of(const cache_options& options) {
  return {.stale_for = options.stale_for,
          .refresh_ahead = options.refresh_ahead,
          .lease_ttl = options.lease_ttl,
          .lease_wait = options.lease_wait,
          .failure_throttle = options.failure_throttle,
          .version = options.version,
          .bare = options.envelope == envelope::bare};
}

bool knows_all_scripts(std::span<const reply> replies) noexcept {
  return std::ranges::none_of(
      replies, [](const reply& each) { return each.is_error() && each.error_text().starts_with("NOSCRIPT"); });
}

std::string decimal(std::chrono::milliseconds span) { return std::to_string(span.count()); }

}  // namespace

cache_state::cache_state(const client& redis, const cache_options& options, value_codec codec)
    : redis_{redis},
      options_{checked(options)},
      rules_{rules_of(options)},
      codec_{std::move(codec)},
      breaker_{seam::circuit_breaker(redis)},
      wakeups_{wakeups::of(redis)},
      keeper_{lease_keeper::of(redis)} {}

caller cache_state::through(const tenant_id& tenant) const {
  return redis_.with({.timeout = options_.redis_timeout, .retry = retry::idempotent, .tenant = &tenant});
}

caller cache_state::through_any() const {
  return redis_.with({.timeout = options_.redis_timeout, .retry = retry::idempotent});
}

void cache_state::check_breaker() {
  if (breaker_.allow(std::chrono::steady_clock::now())) return;
  throw connection_error{errc::unreachable, execution::not_sent, "the circuit breaker is open"};
}

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

/// Errors: also those of the server's error replies.
std::vector<reply> cache_state::ask_or_throw(const caller& by, std::span<const request> requests) {
  std::vector<reply> replies = send(by, requests);
  for (std::size_t i = 0; i < replies.size(); ++i) {
    if (replies[i].is_error()) throw server_error{requests[i].name(), replies[i].error_text()};
  }
  return replies;
}

/// The tenant's stamp, made if there is none, and the server's time.
std::pair<tenant_stamp, std::chrono::microseconds> cache_state::current_stamp(const caller& by, const key& k) {
  const tenant_stamp fresh = tenant_stamp::make();
  const std::vector<request> requests{
      request::of("SET", stamp_key(k.tenant()), std::string{fresh.str()}, "NX", "GET", "PX", decimal(stamp_life())),
      request::of("TIME")};
  const auto replies = ask_or_throw(by, requests);
  const auto now = time_of(replies[1][0], replies[1][1]);
  if (replies[0].is_nil()) return {fresh, now};
  auto stamp = tenant_stamp::parse(replies[0].str());
  if (!stamp) throw error{errc::unexpected_reply, execution::executed, stamp_key(k.tenant()) + " is no stamp"};
  return {*std::move(stamp), now};
}

std::string cache_state::sealed(const key& k, const any_value& value, const load_outcome& outcome,
                                const tenant_stamp& stamp, std::chrono::microseconds computed_at) {
  std::string payload = value ? encode(k, value) : std::string{};
  if (rules_.bare) return payload;
  return seal({.stamp = stamp,
               .stale = outcome.stale_for,
               .ttl = outcome.ttl,
               .computed_at = computed_at,
               .version = options_.version,
               .absent = outcome.absent},
              k.str(), payload);
}

/// What keeps the stamp as long as the value needs it.
std::vector<request> cache_state::storing(const key& k, std::chrono::milliseconds life) const {
  std::vector<request> requests;
  if (!rules_.bare) {
    requests.push_back(request::of("PEXPIRE", stamp_key(k.tenant()), decimal(stamp_life(life)), "GT"));
  }
  return requests;
}

void cache_state::put(const key& k, const any_value& value) {
  try {
    put_now(k, value);
  } catch (const error& fault) {
    if (fault.code() != errc::encode && fault.code() != errc::invalid_option) count(cache_event::store_failure);
    throw;
  }
  count(cache_event::store);
}

void cache_state::put_now(const key& k, const any_value& value) {
  const tenant_id tenant = k.tenant();
  const caller by = through(tenant);
  const load_outcome outcome = outcome_of(value, std::nullopt);
  if (!outcome.storable) throw invalid_option{"cache_options.negative_ttl is needed to put an absent value"};
  auto stamp = tenant_stamp::nobodys();
  std::chrono::microseconds now{0};
  if (!rules_.bare) std::tie(stamp, now) = current_stamp(by, k);
  const auto life = outcome.ttl + outcome.stale_for;
  std::vector<request> requests = storing(k, life);
  const auto names = value_names(k);
  requests.push_back(request::run(scripts::put(), {names[0], names[1], names[2]},
                                  {sealed(k, value, outcome, stamp, now), decimal(life)}));
  ask_or_throw(by, requests);
}

load_ticket cache_state::begin(const key& k) {
  const tenant_id tenant = k.tenant();
  const caller by = through(tenant);
  const auto stamp = rules_.bare ? tenant_stamp::nobodys() : current_stamp(by, k).first;
  const std::string token = random_token();
  const std::string text{stamp.str()};
  const std::vector<request> requests{request::run(
      scripts::acquire(), value_names(k), {token, text, decimal(options_.lease_ttl), "force", "0", "header", "", ""})};
  const auto replies = ask_or_throw(by, requests);
  load_ticket ticket{.key = k.str(), .lease = token + ' ' + text, .stamp = text};
  ticket.began_at = time_of(replies[0][1], replies[0][2]);
  if (replies[0][3].integer() == 1) ticket.lease = "void";  // while a hold is on nothing that is begun may be stored
  return ticket;
}

bool cache_state::put(const key& k, const any_value& value, const load_ticket& ticket) {
  if (ticket.key != k.str())
    throw invalid_option{"load_ticket: it was taken for " + ticket.key + ", not for " + k.str()};
  const tenant_id tenant = k.tenant();
  const caller by = through(tenant);
  const load_outcome outcome = outcome_of(value, std::nullopt);
  if (!outcome.storable) throw invalid_option{"cache_options.negative_ttl is needed to put an absent value"};
  const auto stamp = tenant_stamp::parse(ticket.stamp);
  if (!stamp) throw invalid_option{"load_ticket: it was not made by cache::begin"};
  const auto life = outcome.ttl + outcome.stale_for;
  std::vector<request> requests = storing(k, life);
  requests.push_back(request::of("GET", stamp_key(tenant)));
  requests.push_back(request::run(scripts::store(), value_names(k),
                                  {ticket.lease, sealed(k, value, outcome, *stamp, ticket.began_at), decimal(life)}));
  const auto replies = ask_or_throw(by, requests);
  const reply& now = replies[replies.size() - 2];
  const auto current_stamp = now.is_nil() ? std::nullopt : tenant_stamp::parse(now.str());
  const bool current = rules_.bare || (current_stamp && current_stamp->hard() == stamp->hard() &&
                                       current_stamp->soft() == stamp->soft());
  const bool stored = current && replies.back().integer() == 1;  // under another stamp it is never served
  count(stored ? cache_event::store : cache_event::fenced);
  return stored;
}

void cache_state::invalidate(const key& k, std::chrono::milliseconds hold) {
  const tenant_id tenant = k.tenant();
  const caller by = through(tenant);
  const auto names = value_names(k);
  if (hold > 0ms) {
    const std::vector<request> requests{request::run(scripts::remove(), names, {random_token(), decimal(hold)})};
    ask_or_throw(by, requests);
    return;
  }
  const std::vector<request> requests{request::of("UNLINK", names[0], names[1], names[2]),
                                      request::of("PUBLISH", names[1], "")};
  const auto replies = send(by, requests);
  // Who may not publish keeps others waiting a little longer, no more.
  if (replies[0].is_error()) throw server_error{"UNLINK", replies[0].error_text()};
}

void cache_state::expire(const key& k) {
  const tenant_id tenant = k.tenant();
  const auto names = value_names(k);
  const std::vector<request> requests{request::run(scripts::expire(), {names[0], names[1], names[2]}, {})};
  ask_or_throw(through(tenant), requests);
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
          .waits = value(cache_event::wait),
          .stores = value(cache_event::store),
          .store_failures = value(cache_event::store_failure),
          .encode_failures = value(cache_event::encode_failure),
          .fenced = value(cache_event::fenced)};
}

}  // namespace tenantry::detail
