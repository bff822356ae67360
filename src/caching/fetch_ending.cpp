// How a load ends for the fetch machine: stored, not stored, or failed and looked at again.

#include "caching/fetch_machine.hpp"
#include "caching/scripts.hpp"
#include "caching/stamp_life.hpp"

#include <utility>

namespace tenantry::detail {

namespace {

std::string decimal(std::int64_t value) { return std::to_string(value); }

}  // namespace

fetch_step fetch_machine::loaded(load_outcome what) {
  outcome_ = std::move(what);
  if (lease_.empty()) return answer(fetch_source::computed);
  if (held_) fenced_ = true;  // what is read now may be old, also when it comes to be stored after the hold
  if (held_ || !outcome_.storable) return release();
  if (outcome_.tags.empty()) return store();
  return ask(asking::end_tags, {read_stamps()});
}

/// The tenant's stamp and those of the tags, in one atomic read.
request fetch_machine::read_stamps() const {
  std::vector<std::string> words{"MGET", stamp_name_};
  for (const std::string& each : outcome_.tags) words.push_back(tag_stamp_key(key_.tenant(), each));
  return request::of(std::move(words));
}

fetch_step fetch_machine::take_end_tags(const reply& stamps) {
  if (stamps[0].is_nil() || stamps[0].str() != stamp_->str()) {
    fenced_ = true;
    return release();
  }
  std::vector<request> missing;
  tag_stamps_.clear();
  for (std::size_t i = 0; i < outcome_.tags.size(); ++i) {
    const reply& each = stamps[i + 1];
    auto stamp = each.is_nil() ? std::nullopt : tag_stamp::parse(each.str());
    if (stamp) {
      tag_stamps_.push_back(*std::move(stamp));
    } else {
      missing.push_back(request::of("SET", tag_stamp_key(key_.tenant(), outcome_.tags[i]),
                                    std::string{tag_stamp::make().str()}, "NX", "PX", decimal(stamp_life().count())));
    }
  }
  if (missing.empty()) return store();
  if (++tag_reads_ > 3) return release();  // they vanish as fast as they are made
  missing.push_back(read_stamps());
  return ask(asking::end_tags, std::move(missing));
}

/// Whether what was stored together with this reading is served: false where one of its stamps has changed.
bool fetch_machine::still_current(const reply& stamps) const {
  const auto tenants = stamps[0].is_nil() ? std::nullopt : tenant_stamp::parse(stamps[0].str());
  if (!tenants || tenants->hard() != stamp_->hard() || tenants->soft() != stamp_->soft()) return false;
  for (std::size_t i = 0; i < tag_stamps_.size(); ++i) {
    if (stamps[i + 1].is_nil() || stamps[i + 1].str() != tag_stamps_[i].str()) return false;
  }
  return true;
}

fetch_step fetch_machine::store() {
  const std::chrono::milliseconds life = outcome_.ttl + outcome_.stale_for;
  std::vector<request> all;
  if (rules_.bare) {
    all.push_back(request::run(scripts::store(), names_, {lease_, outcome_.payload, decimal(life.count())}));
    return ask(asking::store, std::move(all));
  }
  envelope_header header{.stamp = *stamp_,
                         .stale = outcome_.stale_for,
                         .ttl = outcome_.ttl,
                         .computed_at = began_at_,
                         .took = outcome_.took,
                         .version = rules_.version,
                         .absent = outcome_.absent};
  for (std::size_t i = 0; i < outcome_.tags.size(); ++i) {
    header.tags.push_back({.name = outcome_.tags[i], .stamp = tag_stamps_[i]});
  }
  // The stamps outlive what is stored under them: without them it would be lost before its time.
  const std::string stamps_life = decimal(stamp_life(life).count());
  all.push_back(request::of("PEXPIRE", stamp_name_, stamps_life, "GT"));
  for (const std::string& each : outcome_.tags) {
    all.push_back(request::of("PEXPIRE", tag_stamp_key(key_.tenant(), each), stamps_life, "GT"));
  }
  all.push_back(read_stamps());
  all.push_back(request::run(scripts::store(), names_,
                             {lease_, seal(header, key_.str(), outcome_.payload), decimal(life.count())}));
  return ask(asking::store, std::move(all));
}

request fetch_machine::end_lease(std::chrono::milliseconds marker_life) {
  return request::run(scripts::release(), {names_[1], names_[2]},
                      {std::exchange(lease_, {}), std::string{stamp_->str()}, decimal(marker_life.count())});
}

fetch_step fetch_machine::release() { return ask(asking::release, {end_lease(std::chrono::milliseconds{0})}); }

fetch_step fetch_machine::load_failed(bool marked) {
  reason_ = fetch_failure::loader;
  last_resort_ = last_resort::give_up;
  if (redis_failed_) return give_up(reason_);
  if (lease_.empty()) return look_again();
  last_look_ = true;
  known_.reset();
  std::vector<request> all{end_lease(marked ? rules_.failure_throttle : std::chrono::milliseconds{0})};
  for (request& each : look()) all.push_back(std::move(each));
  return ask(asking::second_look, std::move(all));
}

/// Reads once more, after what went wrong: an invalidation may have come meanwhile.
fetch_step fetch_machine::look_again() {
  last_look_ = true;
  known_.reset();
  return ask(asking::second_look, look());
}

fetch_step fetch_machine::settle(standing how) {
  if (header_ && header_->stale.count() > 0 && !want_life_) {  // another program keeps stale copies
    want_life_ = true;
    return look_again();
  }
  switch (how) {
    case standing::tags_moved:
      return ask(asking::second_look_at_tags, {read_tags()});
    case standing::fresh:
      return fetch_step::decode;
    case standing::stale:
      if (rules_.stale_for.count() > 0) return fetch_step::decode;
      break;
    case standing::dead:
    case standing::none:
      break;
  }
  return resort();
}

}  // namespace tenantry::detail
