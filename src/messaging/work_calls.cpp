#include "messaging/work_calls.hpp"

#include "messaging/log_id.hpp"

#include <tenantry/detail/schema_args.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <utility>

namespace tenantry::detail {

namespace {

/// Consumers that have nothing and are silent for so long are no more; one that is after all comes back by itself.
constexpr std::chrono::milliseconds forgotten_after = std::chrono::hours{1};

/// Redis counts up to here.
constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();

std::string flag(bool of) { return of ? "1" : ""; }

}  // namespace

std::string dead_letters_key(const log_state& log, const tenant_id& tenant, std::string_view group) {
  return log.name(tenant) + "#dead:" + encode_segment(group);
}

std::vector<std::string> work_calls::keys() const {
  const std::string at = log.name(tenant);
  return {at, at + "#meta", dead_letters_key(log, tenant, group)};
}

std::vector<std::string> work_calls::arguments(const work_request& of) const {
  std::vector<std::string> all{group,
                               consumer,
                               std::to_string(of.count),
                               of.epoch,
                               how.start == group_start::first ? "first" : "latest",
                               flag(of.group_known),
                               std::to_string(how.claim_after.count()),
                               of.claim_from.value_or(std::string{}),
                               std::to_string(of.recover),
                               std::to_string(how.max_attempts),
                               std::to_string(std::min(how.keep_dead, most)),
                               std::to_string(std::max(forgotten_after, 10 * how.claim_after).count()),
                               flag(of.leave)};
  all.reserve(all.size() + 6 * of.settled.size());
  for (const settled_work& each : of.settled) {
    all.push_back(std::to_string(each.of->offset));
    all.push_back(each.of->tag);
    switch (each.what) {
      case settled_work::outcome::done:
        all.insert(all.end(), {"done", {}, {}, {}});
        break;
      case settled_work::outcome::again:
        all.insert(all.end(), {"again", std::to_string(each.after.count()), std::to_string(each.attempts), {}});
        break;
      case settled_work::outcome::dead:
        all.insert(all.end(), {"dead", each.of->payload, std::to_string(each.attempts), each.why});
        break;
    }
  }
  return all;
}

work_reply work_calls::answer(const reply& to) {
  work_reply read{.epoch = to[0].str(),
                  .claim_from = to[1].str(),
                  .trimmed = static_cast<std::uint64_t>(to[2].integer() + to[3].integer()),
                  .dead = static_cast<std::uint64_t>(to[4].integer()),
                  .given = {}};
  const std::size_t size = to.elements().size();
  read.given.reserve((size - 5) / 4);
  for (std::size_t i = 5; i + 3 < size; i += 4) {
    auto given = std::make_shared<held_work>();
    given->offset = static_cast<std::uint64_t>(to[i].integer());
    given->tag = to[i + 1].str();
    given->payload = to[i + 2].str();
    given->attempt = static_cast<std::uint32_t>(to[i + 3].integer());
    given->id = log_id{.epoch = read.epoch, .offset = given->offset, .tag = given->tag}.str();
    read.given.push_back(std::move(given));
  }
  return read;
}

std::vector<dead_letter> log_core::dead_letters(const tenant_id& tenant, std::string_view group,
                                                std::size_t at_most) const {
  const reply found = state_->redis()
                          .with({.timeout = state_->timeout(), .tenant = &tenant})
                          .execute("XRANGE", dead_letters_key(*state_, tenant, group), "-", "+", "COUNT",
                                   std::min<std::uint64_t>(at_most, most));
  std::vector<dead_letter> letters;
  letters.reserve(found.elements().size());
  for (const reply& each : found.elements()) {
    dead_letter letter;
    letter.place = each[0].str();
    const auto& fields = each[1].elements();
    for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
      const std::string name = fields[i].str();
      std::string value = fields[i + 1].str();
      if (name == "i") {
        letter.id = std::move(value);
      } else if (name == "d") {
        letter.payload = std::move(value);
      } else if (name == "n") {
        letter.attempts = static_cast<std::uint32_t>(std::strtoul(value.c_str(), nullptr, 10));
      } else if (name == "w") {
        letter.why = std::move(value);
      }
    }
    letters.push_back(std::move(letter));
  }
  return letters;
}

bool log_core::remove_dead_letter(const tenant_id& tenant, std::string_view group, std::string_view place) const {
  return state_->redis()
             .with({.timeout = state_->timeout(), .tenant = &tenant})
             .execute("XDEL", dead_letters_key(*state_, tenant, group), place)
             .integer() == 1;
}

}  // namespace tenantry::detail
