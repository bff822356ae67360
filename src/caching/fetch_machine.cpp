#include "caching/fetch_machine.hpp"

#include "caching/scripts.hpp"
#include "caching/server_time.hpp"
#include "caching/stamp_life.hpp"

#include <tenantry/detail/ttl.hpp>

#include <algorithm>
#include <limits>
#include <utility>

namespace tenantry::detail {

namespace {

constexpr std::int64_t for_ever = std::numeric_limits<std::int64_t>::max();

std::string decimal(std::int64_t value) { return std::to_string(value); }

std::int64_t life_of(const reply& pttl) {
  const std::int64_t life = pttl.integer();
  return life == -1 ? for_ever : life;
}

bool is_wrong_type(const reply& answer) noexcept {
  return answer.is_error() && answer.error_text().starts_with("WRONGTYPE");
}

}  // namespace

fetch_machine::fetch_machine(const key& k, const fetch_rules& rules, bool may_wait)
    : key_{k},
      rules_{rules},
      may_wait_{may_wait},
      names_{value_names(k)},
      stamp_name_{stamp_key(k.tenant())},
      want_life_{rules.needs_life()} {}

std::vector<std::string> value_names(const key& k) {
  return {k.str(), k.companion("lease"), k.companion("failed"), k.companion("hold")};
}

fetch_step fetch_machine::begin(std::optional<tenant_stamp> known) {
  follows_ = own_load_ = false;
  known_ = std::move(known);
  return ask(asking::value, look(rules_.near));
}

fetch_step fetch_machine::begin_apart(std::string identity, const error& why) {
  failure_ = std::make_shared<const error>(why);
  redis_failed_ = may_lead_ = true;
  identity_ = std::move(identity);
  return fetch_step::board;
}

fetch_step fetch_machine::begin_refresh(std::int64_t below) {
  refresh_below_ = below;
  only_refresh_ = true;
  return begin();
}

fetch_step fetch_machine::ask(asking what, std::vector<request> requests) {
  asking_ = what;
  requests_ = std::move(requests);
  return fetch_step::ask;
}

/// The value and the tenant's stamp. The life is read before the value: a value that is replaced in between then looks
/// older than it is, never younger, as its line says how long it may live at most. One without a line has its life read
/// after it: that of another value is read only where the server is about to say that this one has been replaced. What
/// is read first of a key is tracked, so that each change from then on is heard of.
std::vector<request> fetch_machine::look(bool tracked) {
  std::vector<request> all;
  const auto add = [&all](request one, bool told) {
    all.push_back(told ? std::move(one).tracked() : std::move(one));
    return all.size() - 1;
  };
  const bool life_first = want_life_ && !rules_.bare;
  look_ = {};
  if (life_first) look_.life = add(request::of("PTTL", names_[0]), tracked);
  look_.value = add(request::of("GET", names_[0]), tracked && !life_first);
  if (want_life_ && rules_.bare) look_.life = add(request::of("PTTL", names_[0]), false);
  if (!rules_.bare && !known_) look_.stamp = add(request::of("GET", stamp_name_), tracked);
  return all;
}

/// `replies` are those of the look and no others.
void fetch_machine::take_look(std::span<reply> replies) {
  if (rules_.bare) {
    stamp_ = tenant_stamp::nobodys();
  } else if (look_.stamp) {
    const reply& stamp = replies[*look_.stamp];
    stamp_ = stamp.is_nil() ? std::nullopt : tenant_stamp::parse(stamp.str());
  } else {
    stamp_ = known_;
  }
  take_value(replies[look_.value], look_.life ? life_of(replies[*look_.life]) : for_ever);
}

void fetch_machine::take_value(reply& value, std::int64_t life) {
  header_.reset();
  tags_current_ = soft_moved_ = unusable_ = false;
  tags_now_.clear();
  found_ = {};
  if (value.is_nil()) return;
  if (value.is_error()) {
    found_.wrong_type = true;
    return;
  }
  bytes_ = std::move(value).str();
  life_ = life;
  if (rules_.bare) {
    header_ = envelope_header{.stamp = tenant_stamp::nobodys()};
    payload_ = bytes_;
    return;
  }
  auto opened = open_envelope(bytes_, key_.str());
  if (!opened || opened->header.version != rules_.version) {
    found_.defect = true;
    unusable_ = bytes_.starts_with(envelope_mark);  // it might look fresh to the script
    return;
  }
  header_ = std::move(opened->header);
  first_line_ = opened->first_line;
  payload_ = opened->payload;
}

fetch_machine::standing fetch_machine::judge() const {
  if (!header_) return standing::none;
  if (!stamp_ || header_->stamp.hard() != stamp_->hard()) return standing::dead;
  if (!header_->tags.empty() && !tags_current_ && header_->stamp.tags() != stamp_->tags()) return standing::tags_moved;
  if (header_->stamp.soft() != stamp_->soft() || soft_moved_) return standing::stale;
  return life_ > header_->stale.count() ? standing::fresh : standing::stale;
}

request fetch_machine::read_tags() const {
  std::vector<std::string> words{"MGET"};
  for (const stamped_tag& each : header_->tags) words.push_back(tag_stamp_key(key_.tenant(), each.name));
  request one = request::of(std::move(words));
  return rules_.near ? std::move(one).tracked() : one;
}

/// False where the value is dead. Otherwise it is current, or stale where a soft token has moved.
bool fetch_machine::take_tags(const reply& stamps) {
  for (std::size_t i = 0; i < header_->tags.size(); ++i) {
    const reply& each = stamps[i];
    auto now = each.is_nil() ? std::nullopt : tag_stamp::parse(each.str());
    const tag_stamp& then = header_->tags[i].stamp;
    if (!now || now->hard() != then.hard()) return false;
    if (now->soft() != then.soft()) soft_moved_ = true;
    tags_now_.push_back(std::move(now));
  }
  tags_current_ = true;
  if (!soft_moved_) {
    restamp_ = request::run(scripts::restamp(), {names_[0]}, {first_line_, std::string{stamp_->tags()}});
  }
  return true;
}

fetch_step fetch_machine::answered(std::span<reply> replies, time_point now) {
  const bool looks = asking_ == asking::value || asking_ == asking::second_look;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    const bool is_value = looks && i + look_.count() == replies.size() + look_.value;
    if (!replies[i].is_error() || (is_value && is_wrong_type(replies[i]))) continue;
    return unanswered(server_error{requests_[i].name(), replies[i].error_text()});
  }
  switch (asking_) {
    case asking::value:
      take_look(replies);
      return use();
    case asking::tags:
      if (!take_tags(replies.front())) return go_on_to_load();
      return use();
    case asking::new_stamp:
      return take_new_stamp(replies.front());
    case asking::lease:
      return leased(replies, now);
    case asking::stamp: {
      const reply& stamp = replies.front();
      if (stamp.is_nil() || stamp.str() != stamp_->str()) return begin();
      take_over_ = true;
      return take_lease();
    }
    case asking::end_tags:
      return take_end_tags(replies.back());
    case asking::store:
      stored_ = replies.back().integer() == 1 && (rules_.bare || still_current(replies[replies.size() - 2]));
      fenced_ = !stored_;
      return answer(fetch_source::computed);
    case asking::release:
      return answer(fetch_source::computed);
    case asking::second_look:
      take_look(replies.last(look_.count()));
      return settle(judge());
    case asking::second_look_at_tags:
      return settle(take_tags(replies.front()) ? judge() : standing::dead);
  }
  return give_up(fetch_failure::loader);
}

fetch_step fetch_machine::unanswered(const error& why) {
  failure_ = std::make_shared<const error>(why);
  switch (asking_) {
    case asking::value:
    case asking::tags:
    case asking::new_stamp:
    case asking::lease:
    case asking::stamp:
      if (refreshing_ || only_refresh_) {
        redis_failed_ = true;
        return answer(fetch_source::redis);
      }
      return begin_apart("no redis", why);  // joined without a look: the best that can be done
    case asking::end_tags:
    case asking::store:
    case asking::release:
      return answer(fetch_source::computed);
    case asking::second_look:
    case asking::second_look_at_tags:
      return resort();
  }
  return give_up(reason_);
}

/// With what was read: the value, its tags, or a lease to load it.
fetch_step fetch_machine::use() {
  switch (judge()) {
    case standing::fresh:
      if (header_->stale.count() > 0 && !want_life_) {  // another program keeps stale copies
        want_life_ = true;
        return begin();
      }
      return fetch_step::decode;
    case standing::tags_moved:
      return ask(asking::tags, {read_tags()});
    case standing::stale:
    case standing::dead:
    case standing::none:
      break;
  }
  return go_on_to_load();
}

/// A stamp that was only known will not do for that.
fetch_step fetch_machine::go_on_to_load() { return known_ ? begin() : take_lease(); }

bool fetch_machine::has_candidate() const {
  const standing how = judge();
  return (how == standing::fresh || how == standing::stale) && !header_->absent;
}

/// The value may have been replaced since its life was read, so that its own ttl counts as well.
std::int64_t fetch_machine::fresh_for() const noexcept {
  if (life_ == for_ever) return for_ever;
  std::int64_t left = life_ - header_->stale.count() - refresh_below_.value_or(0);
  if (header_->ttl.count() > 0) left = std::min(left, header_->ttl.count() - refresh_below_.value_or(0));
  return std::max<std::int64_t>(left, 0);
}

/// With XFetch the time is drawn once for each fetch: the later in the value's life, the likelier.
bool fetch_machine::refresh_due() {
  if (header_->ttl.count() <= 0 || life_ == for_ever || !rules_.refreshes()) return false;
  if (!refresh_below_) {
    double below = 0;
    if (rules_.refresh_ahead > 0) below = static_cast<double>(header_->ttl.count()) * (1.0 - rules_.refresh_ahead);
    if (rules_.refresh_beta > 0)
      below = std::max(below, early_margin(header_->took, rules_.refresh_beta, random_unit()));
    refresh_below_ = static_cast<std::int64_t>(std::min(below, static_cast<double>(header_->ttl.count())));
  }
  return life_ - header_->stale.count() <= *refresh_below_;
}

fetch_step fetch_machine::decoded(bool usable) {
  if (last_look_) {
    if (usable) return answer(judge() == standing::fresh ? fetch_source::redis : fetch_source::stale);
    return resort();
  }
  if (!usable) {
    unusable_ = true;
    return go_on_to_load();
  }
  if (refreshed_ || !refresh_due()) return answer(fetch_source::redis);
  if (known_) return begin();
  refreshing_ = true;
  return take_lease();
}

fetch_step fetch_machine::take_lease() {
  if (only_refresh_ && !refreshing_) return answer(fetch_source::redis);
  if (!stamp_) {  // of a tenant that is new, or was away for long
    new_stamp_ = tenant_stamp::make();
    return ask(asking::new_stamp, {request::of("SET", stamp_name_, std::string{new_stamp_->str()}, "NX", "GET", "PX",
                                               decimal(stamp_life().count()))});
  }
  if (token_.empty()) token_ = random_token();
  const std::int64_t enough = refreshing_ ? *refresh_below_ : 0;
  std::vector<std::string> arguments{token_,
                                     std::string{stamp_->str()},
                                     decimal(rules_.lease_ttl.count()),
                                     std::exchange(take_over_, false) ? "takeover" : "load",
                                     decimal(enough),
                                     rules_.bare ? "bare" : "header",
                                     unusable_ ? bytes_ : std::string{},
                                     header_ && !rules_.bare ? first_line_ : std::string{}};
  return ask(asking::lease, {request::run(scripts::acquire(), names_, std::move(arguments))});
}

fetch_step fetch_machine::take_new_stamp(const reply& before) {
  stamp_ = before.is_nil() ? new_stamp_ : tenant_stamp::parse(before.str());
  if (!stamp_) return unanswered(error{errc::unexpected_reply, execution::executed, stamp_name_ + " is no stamp"});
  return take_lease();
}

fetch_step fetch_machine::leased(std::span<reply> replies, time_point now) {
  reply& got = replies.back();
  const std::string what = got[0].str();
  if (what == "hit") {
    if (refreshing_) return answer(fetch_source::redis);  // somebody else has; the value at hand will do
    refreshed_ = true;
    take_value(got.element(1), life_of(got[2]));
    if (header_) return fetch_step::decode;
    unusable_ = true;
    return take_lease();
  }
  if (what == "lease") {
    lease_ = token_ + ' ' + std::string{stamp_->str()};
    began_at_ = time_of(got[1], got[2]);
    held_ = got[3].integer() == 1;
    if (got[4].integer() != 1) header_.reset();  // what was seen is gone, and must not be built on
    identity_ = lease_;
    may_lead_ = true;
    return fetch_step::board;
  }
  if (refreshing_) return answer(fetch_source::redis);
  if (what == "busy") {
    held_ = got[3].integer() == 1;
    return busy(got[1].str(), got[2].integer(), now);
  }
  time_left_ = std::chrono::milliseconds{got[1].integer()};
  reason_ = fetch_failure::throttled;
  last_resort_ = last_resort::give_up;
  return look_again();
}

fetch_step fetch_machine::answer(fetch_source from) noexcept {
  source_ = from;
  return fetch_step::answer;
}

fetch_step fetch_machine::give_up(fetch_failure why) noexcept {
  reason_ = why;
  return fetch_step::give_up;
}

std::optional<std::chrono::microseconds> fetch_machine::computed_at() const noexcept {
  switch (source_) {
    case fetch_source::redis:
    case fetch_source::stale:
      return header_ && header_->computed_at.count() > 0 ? std::optional{header_->computed_at} : std::nullopt;
    case fetch_source::computed:
      return !rules_.bare && began_at_.count() > 0 ? std::optional{began_at_} : std::nullopt;
    case fetch_source::flight:
      break;
  }
  return std::nullopt;
}

}  // namespace tenantry::detail
