#pragma once
// A fetch machine in the hands of a test: what it asks of Redis in words, and replies for it.

#include "caching/fetch_machine.hpp"
#include "caching/scripts.hpp"

#include <tenantry/error.hpp>
#include <tenantry/key_schema.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace machine_test {

using namespace std::chrono_literals;
using namespace std::string_literals;
using namespace tenantry::detail;
using tenantry::reply;
using tenantry::reply_type;

using step = fetch_step;
using texts = std::vector<std::string>;

inline reply nil() { return {}; }
inline reply text(std::string_view words) { return reply::make_text(reply_type::string, words); }
inline reply number(std::int64_t value) { return reply::make_integer(value); }
inline reply fault(std::string_view words) { return reply::make_text(reply_type::error, words); }
inline const auto ok = reply::make_text(reply_type::status, "OK");
inline const auto wrong_type = fault("WRONGTYPE Operation against a key holding the wrong kind of value");

inline reply list(std::vector<reply> elements) {
  reply all = reply::make_array(elements.size());
  for (std::size_t i = 0; i < elements.size(); ++i) all.element(i) = std::move(elements[i]);
  return all;
}

/// The stamp of a tenant whose tokens are these characters over and over.
inline std::string stamp(char hard, char soft, char tags) {
  return std::string(token_size, hard) + '.' + std::string(token_size, soft) + '.' + std::string(token_size, tags);
}
/// The stamp of a tag.
inline std::string tag_text(char hard, char soft) {
  return std::string(token_size, hard) + '.' + std::string(token_size, soft);
}
inline const std::string now_stamp = stamp('1', '2', '3');

inline constexpr tenantry::key_schema<"kpi:{tenant}:portfolio"> portfolio;
inline const std::string value_key = "kpi:acme:portfolio";
inline const std::string lease_key = "{kpi:acme:portfolio}#lease";
inline const std::string failed_key = "{kpi:acme:portfolio}#failed";
inline const std::string hold_key = "{kpi:acme:portfolio}#hold";
inline const std::string all_keys = value_key + ' ' + lease_key + ' ' + failed_key + ' ' + hold_key;
inline const std::string stamp_name = "stamp:{acme}";
inline const std::string day = "86400000";

/// What is different in a value in Redis.
struct stored {
  std::string stamp = now_stamp;
  std::chrono::milliseconds stale{0};
  std::chrono::milliseconds ttl = 5min;
  std::uint32_t version = 0;
  bool absent = false;
  std::vector<stamped_tag> tags = {};
  std::chrono::microseconds computed_at = 77s;
};

inline std::string value(std::string_view payload, const stored& how = {}) {
  return seal({.stamp = *tenant_stamp::parse(how.stamp),
               .stale = how.stale,
               .ttl = how.ttl,
               .computed_at = how.computed_at,
               .version = how.version,
               .absent = how.absent,
               .tags = how.tags},
              value_key, payload);
}

inline stamped_tag tagged(std::string name, char hard, char soft) {
  return {.name = std::move(name), .stamp = *tag_stamp::parse(tag_text(hard, soft))};
}

inline load_outcome outcome(std::string payload = "new", std::vector<std::string> tags = {}) {
  return {.payload = std::move(payload), .ttl = 5min, .took = 250us, .tags = std::move(tags)};
}

/// Replies of the script that gives leases.
inline reply lease_given() { return list({text("lease"), text("1000"), text("5"), number(0), number(1)}); }
inline reply lease_busy(std::string_view lease, std::int64_t life = 3000) {
  return list({text("busy"), text(lease), number(life), number(0)});
}
inline reply lease_hit(std::string_view bytes, std::int64_t life) {
  return list({text("hit"), text(bytes), number(life)});
}
inline reply marker(std::int64_t life) { return list({text("failed"), number(life)}); }
/// The same while nothing may be stored.
inline reply held_lease() { return list({text("lease"), text("1000"), text("5"), number(1), number(1)}); }
inline reply held_busy(std::string_view lease) { return list({text("busy"), text(lease), number(3000), number(1)}); }

inline std::string script_name(const tenantry::script* which) {
  if (which == &scripts::acquire()) return "acquire";
  if (which == &scripts::release()) return "release";
  if (which == &scripts::restamp()) return "restamp";
  if (which == &scripts::store()) return "store";
  return "unknown";
}

/// A request in words.
inline std::string words_of(const request& each) {
  std::string line = each.is_script() ? script_name(each.what()) : "";
  for (const std::string& word : each.words()) line += (line.empty() ? "" : " ") + word;
  // The first line of the value that was seen, which a test looks at by itself.
  if (each.what() == &scripts::acquire()) line.resize(line.size() - each.words().back().size() - 1);
  return line;
}

struct bench {
  explicit bench(fetch_rules with = {}, bool may_wait = true) : rules{with}, tested{name, rules, may_wait} {}
  bench(const bench&) = delete;
  bench& operator=(const bench&) = delete;

  const tenantry::key name = portfolio(tenantry::tenant_id{"acme"});
  const fetch_rules rules;
  fetch_machine tested;
  fetch_machine::time_point now{1h};
  int trips = 0;  // round trips

  step begin() { return tested.begin(); }
  step answer(std::vector<reply> replies) {
    ++trips;
    return tested.answered(replies, now);
  }
  step no_answer() {
    ++trips;
    return tested.unanswered({tenantry::errc::timeout, tenantry::execution::unknown, "no answer"});
  }
  /// Woken, and the look after it finds nothing.
  step wake() {
    if (const step next = tested.woken(now); next != step::ask) return next;
    std::vector<reply> replies(rules.needs_life() ? 3 : 2);
    if (rules.needs_life()) replies.front() = number(-2);
    replies.back() = text(now_stamp);
    return answer(std::move(replies));
  }
  step board(boarding how) { return tested.boarded(how, now); }

  /// What it asks, a line each.
  [[nodiscard]] texts asks() const {
    texts lines;
    for (const request& each : tested.requests()) lines.push_back(words_of(each));
    return lines;
  }
  [[nodiscard]] std::string token() const { return tested.asked_lease().substr(0, token_size); }
  /// The request for a lease.
  [[nodiscard]] std::string acquire(std::string_view how = "load", std::string_view under = now_stamp,
                                    std::string_view enough = "0", std::string_view seen = "") const {
    return "acquire " + all_keys + ' ' + token() + ' ' + std::string{under} + " 5000 " + std::string{how} + ' ' +
           std::string{enough} + (rules.bare ? " bare " : " header ") + std::string{seen};
  }

  /// Redis stored the value, or did not, and its stamps were these then.
  step store_answer(bool taken, std::string_view under = now_stamp, const texts& tags = {}) {
    std::vector<reply> replies(tags.size() + 1, number(1));  // to PEXPIRE
    std::vector<reply> stamps{text(under)};
    for (const std::string& each : tags) stamps.push_back(text(each));
    replies.push_back(list(std::move(stamps)));
    replies.push_back(number(taken ? 1 : 0));
    return answer(std::move(replies));
  }

  /// Up to the request for a lease: nothing is there.
  step miss() {
    begin();
    std::vector<reply> replies(rules.needs_life() ? 3 : 2);
    if (rules.needs_life()) replies.front() = number(-2);
    replies.back() = text(now_stamp);
    return answer(std::move(replies));
  }
  /// Up to the load, as its leader.
  step lead() {
    miss();
    return lead_from_here();
  }
  step lead_from_here() {
    answer({lease_given()});
    return board(boarding::leads);
  }
  [[nodiscard]] std::string lease(std::string_view under = now_stamp) const {
    return token() + ' ' + std::string{under};
  }
};

}  // namespace machine_test
