#include "caching/key_writes.hpp"

#include "caching/near_write.hpp"
#include "caching/scripts.hpp"
#include "caching/server_time.hpp"
#include "caching/stamp_life.hpp"
#include "engine/seam.hpp"

#include <tenantry/error.hpp>

#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

std::string decimal(std::chrono::milliseconds span) { return std::to_string(span.count()); }

/// Errors: also those of the server's error replies.
task<std::vector<reply>> ask(cache_state& on, face how, const caller& by, std::vector<request> requests) {
  auto sent = send(on, how, by, requests);
  answers all = co_await std::move(sent);
  std::vector<reply> replies = std::move(all.replies);
  for (std::size_t i = 0; i < replies.size(); ++i) {
    if (replies[i].is_error()) throw server_error{requests[i].name(), replies[i].error_text()};
  }
  co_return replies;
}

/// The tenant's stamp, made if there is none, and the server's time.
struct stamp_now {
  tenant_stamp stamp = tenant_stamp::nobodys();
  std::chrono::microseconds at{0};
};

task<stamp_now> current_stamp(cache_state& on, face how, const caller& by, key k) {
  seam::check_not_forked(on.redis());
  if (on.rules().bare) co_return stamp_now{};
  const tenant_stamp fresh = tenant_stamp::make();
  std::vector<request> requests;
  requests.push_back(
      request::of("SET", stamp_key(k.tenant()), std::string{fresh.str()}, "NX", "GET", "PX", decimal(stamp_life())));
  requests.push_back(request::of("TIME"));
  auto asked = ask(on, how, by, std::move(requests));
  const std::vector<reply> replies = co_await std::move(asked);
  stamp_now now{.stamp = fresh, .at = time_of(replies[1][0], replies[1][1])};
  if (replies[0].is_nil()) co_return now;
  auto stamp = tenant_stamp::parse(replies[0].str());
  if (!stamp) throw error{errc::unexpected_reply, execution::executed, stamp_key(k.tenant()) + " is no stamp"};
  now.stamp = *std::move(stamp);
  co_return now;
}

load_outcome outcome_to_store(const cache_state& on, const any_value& value) {
  load_outcome outcome = on.outcome_of(value, std::nullopt);
  if (!outcome.storable) throw invalid_option{"cache_options.negative_ttl is needed to put an absent value"};
  return outcome;
}

std::string sealed(cache_state& on, const key& k, const any_value& value, const load_outcome& outcome,
                   const stamp_now& under) {
  std::string payload = value ? on.encode(k, value) : std::string{};
  if (on.rules().bare) return payload;
  return seal({.stamp = under.stamp,
               .stale = outcome.stale_for,
               .ttl = outcome.ttl,
               .computed_at = under.at,
               .version = on.rules().version,
               .absent = outcome.absent},
              k.str(), payload);
}

/// What keeps the stamp as long as the value needs it.
std::vector<request> keeping_stamp(const cache_state& on, const key& k, std::chrono::milliseconds life) {
  std::vector<request> requests;
  if (!on.rules().bare) {
    requests.push_back(request::of("PEXPIRE", stamp_key(k.tenant()), decimal(stamp_life(life)), "GT"));
  }
  return requests;
}

task<void> put_now(cache_state& on, face how, key k, any_value value) {
  const tenant_id tenant = k.tenant();
  const caller by = on.through(tenant);
  const load_outcome outcome = outcome_to_store(on, value);
  auto reading = current_stamp(on, how, by, k);
  const stamp_now under = co_await std::move(reading);
  const auto life = outcome.ttl + outcome.stale_for;
  std::vector<request> requests = keeping_stamp(on, k, life);
  const auto names = value_names(k);
  requests.push_back(request::run(scripts::put(), {names[0], names[1], names[2]},
                                  {sealed(on, k, value, outcome, under), decimal(life)}));
  const near_write writing{{k.str()}};
  auto storing = ask(on, how, by, std::move(requests));
  co_await std::move(storing);
}

invalidation of_key(const key& k, const std::string& kind, std::vector<request> requests) {
  return {.tenant = k.tenant(),
          .key = k.str(),
          .name = kind + k.str(),
          .written = {k.str()},
          .requests = [all = std::move(requests)] { return all; }};
}

/// Sends it, or queues it where that may be. The first request decides.
task<delivery> deliver(cache_state& on, face how, invalidation what) {
  seam::check_not_forked(on.redis());
  const bool may_queue = on.options().undelivered == undelivered::queue;
  const near_write writing{what.written};  // until it is queued, if it is
  std::optional<error> failed;
  std::exception_ptr as_thrown;
  try {
    if (may_queue) on.check_breaker();
    const caller by = on.through(what.tenant);
    const std::vector<request> requests = what.requests();
    auto sent = send(on, how, by, requests);
    const answers all = co_await std::move(sent);
    if (all.replies[0].is_error()) throw server_error{requests[0].name(), all.replies[0].error_text()};
    on.undelivered().note(what);
    co_return delivery::done;
  } catch (const error& why) {
    if (!may_queue || !passes_by_itself(why)) throw;
    failed.emplace(why);
    as_thrown = std::current_exception();
  }
  const bool queued = on.undelivered().add(std::move(what), *failed);
  if (!queued) std::rethrow_exception(as_thrown);
  co_return delivery::queued;
}

}  // namespace

task<void> put(cache_state& on, face how, key k, any_value value) {
  try {
    auto putting = put_now(on, how, std::move(k), std::move(value));
    co_await std::move(putting);
  } catch (const error& fault) {
    if (fault.code() != errc::encode && fault.code() != errc::invalid_option) on.count(cache_event::store_failure);
    throw;
  }
  on.count(cache_event::store);
}

task<load_ticket> begin(cache_state& on, face how, key k) {
  const tenant_id tenant = k.tenant();
  const caller by = on.through(tenant);
  auto reading = current_stamp(on, how, by, k);
  const stamp_now under = co_await std::move(reading);
  const std::string token = random_token();
  const std::string text{under.stamp.str()};
  std::vector<request> requests;
  requests.push_back(request::run(scripts::acquire(), value_names(k),
                                  {token, text, decimal(on.rules().lease_ttl), "force", "0", "header", "", ""}));
  auto asked = ask(on, how, by, std::move(requests));
  const std::vector<reply> replies = co_await std::move(asked);
  load_ticket ticket;
  ticket.key = k.str();
  ticket.lease = token + ' ' + text;
  ticket.stamp = text;
  ticket.began_at = time_of(replies[0][1], replies[0][2]);
  if (replies[0][3].integer() == 1) ticket.lease = "void";  // while a hold is on nothing that is begun may be stored
  co_return ticket;
}

task<bool> put(cache_state& on, face how, key k, any_value value, load_ticket ticket) {
  if (ticket.key != k.str())
    throw invalid_option{"load_ticket: it was taken for " + ticket.key + ", not for " + k.str()};
  seam::check_not_forked(on.redis());
  const tenant_id tenant = k.tenant();
  const caller by = on.through(tenant);
  const load_outcome outcome = outcome_to_store(on, value);
  auto stamp = tenant_stamp::parse(ticket.stamp);
  if (!stamp) throw invalid_option{"load_ticket: it was not made by cache::begin"};
  const stamp_now under{.stamp = *std::move(stamp), .at = ticket.began_at};
  const auto life = outcome.ttl + outcome.stale_for;
  std::vector<request> requests = keeping_stamp(on, k, life);
  requests.push_back(request::of("GET", stamp_key(tenant)));
  requests.push_back(request::run(scripts::store(), value_names(k),
                                  {ticket.lease, sealed(on, k, value, outcome, under), decimal(life)}));
  const near_write writing{{k.str()}};
  auto asked = ask(on, how, by, std::move(requests));
  const std::vector<reply> replies = co_await std::move(asked);
  const reply& now = replies[replies.size() - 2];
  const auto current_stamp = now.is_nil() ? std::nullopt : tenant_stamp::parse(now.str());
  const bool current = on.rules().bare || (current_stamp && current_stamp->hard() == under.stamp.hard() &&
                                           current_stamp->soft() == under.stamp.soft());
  const bool stored = current && replies.back().integer() == 1;  // under another stamp it is never served
  on.count(stored ? cache_event::store : cache_event::fenced);
  co_return stored;
}

task<delivery> invalidate(cache_state& on, face how, const key& k, std::chrono::milliseconds hold) {
  if (hold < 0ms || hold > std::chrono::years{100}) {
    throw invalid_option{"invalidate_options.hold is not from 0 to 100 years"};
  }
  const auto names = value_names(k);
  std::vector<request> requests;
  std::string kind = "invalidate ";
  if (hold > 0ms) {
    requests.push_back(request::run(scripts::remove(), names, {random_token(), decimal(hold)}));
    kind += "with a hold of " + decimal(hold) + " ms ";  // none stands for another
  } else {
    requests.push_back(request::of("UNLINK", names[0], names[1], names[2]));
    // Who may not publish keeps others waiting a little longer, no more.
    requests.push_back(request::of("PUBLISH", names[1], ""));
  }
  return deliver(on, how, of_key(k, kind, std::move(requests)));
}

task<delivery> expire(cache_state& on, face how, const key& k) {
  const auto names = value_names(k);
  std::vector<request> requests;
  requests.push_back(request::run(scripts::expire(), {names[0], names[1], names[2]}, {}));
  return deliver(on, how, of_key(k, "expire ", std::move(requests)));
}

}  // namespace tenantry::detail
