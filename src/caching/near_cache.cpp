#include "caching/near_cache.hpp"

#include "caching/near_clock.hpp"
#include "caching/stamp.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tenantry::detail {

namespace {

constexpr std::int64_t ms = 1'000'000;

/// Tokens are random, so that two of them have the same fingerprint as good as never.
std::uint64_t under(const tenant_stamp& stamp) noexcept {
  return near_hash(stamp.str().substr(0, stamp.hard().size() + 1 + stamp.soft().size()));
}
std::uint64_t under(const tag_stamp& stamp) noexcept { return near_hash(stamp.str()); }
std::uint64_t tags_of(const tenant_stamp& stamp) noexcept { return near_hash(stamp.tags()); }

}  // namespace

near_cache::near_cache(const client& redis, const near_options& options, bool bare, const value_codec& codec)
    : tracking_{near_tracking::of(redis)},
      max_age_{options.max_age.count() * ms},
      bare_{bare},
      codec_{codec},
      table_{options.max_bytes} {
  tracking_->add(*this);
}

near_cache::~near_cache() { tracking_->remove(*this); }

near_hit near_cache::find(const key& k) noexcept {
  near_hit hit = look(k);
  if (!hit.found) return hit;
  hits_.add();
  if ((hit.held != nullptr ? hit.held->get() : hit.share.get()) == nullptr) absent_.add();
  return hit;
}

any_value near_cache::read_by_others(const key& k, const envelope_header& header) noexcept {
  if (header.computed_at.count() == 0) return nullptr;
  const near_hit hit = look(k);
  if (!hit.found || hit.computed_at != header.computed_at.count()) return nullptr;
  return hit.held != nullptr ? *hit.held : hit.share;
}

near_hit near_cache::look(const key& k) const noexcept {
  const std::string& name = k.str();
  near_hit hit;
  const auto seen = table_.find(near_hash(name), name, hit.pin);
  if (seen.value != nullptr) {
    if (!is_current(*seen.value)) return {};
    hit.held = &seen.value->value;
    hit.computed_at = seen.value->computed_at;
    hit.found = true;
  } else if (seen.out_of_pins && !tracking_->forked()) {
    table_.visit(near_hash(name), name, [&](const entry& one) {
      if (!is_current(one)) return;
      hit.share = one.value;
      hit.computed_at = one.computed_at;
      hit.found = true;
    });
  }
  if (!hit.found) return {};
  return hit;
}

bool near_cache::is_current(const entry& one) const noexcept {
  const std::int64_t at = coarse_now() + coarse_step;
  const std::uint64_t epoch = tracking_->epoch();
  if (one.until <= at || one.epoch != epoch) return false;
  if (bare_) return true;
  near_stamp::known tenant;
  if (!is_known(one.tenant, tenant, epoch, at) || tenant.under != one.under) return false;
  if (!one.tagged || tenant.tags == one.tags) return true;
  return std::ranges::all_of(*one.tagged, [&](const tag_of_value& each) {
    near_stamp::known now;
    return is_known(each.stamp, now, epoch, at) && now.under == each.under;
  });
}

bool near_cache::is_known(const near_stamp_ref& stamp, near_stamp::known& now, std::uint64_t epoch,
                          std::int64_t at) const noexcept {
  return stamp->read(now) && now.epoch == epoch && at - now.read_at < max_age_;
}

std::optional<tenant_stamp> near_cache::known_stamp(const key& k) const {
  if (bare_ || tracking_->forked()) return std::nullopt;
  return tenant_stamp::parse(
      tracking_->stamps().text_of(stamp_key(k.tenant()), tracking_->epoch(), exact_now() - max_age_));
}

near_ticket near_cache::begin(const key& k) const {
  near_ticket ticket{.epoch = tracking_->epoch(), .sent_at = exact_now()};
  ticket.value_changes = tracking_->changes().of(near_hash(k.str()));
  if (!bare_) ticket.stamp_changes = tracking_->changes().of(near_hash(stamp_key(k.tenant())));
  return ticket;
}

void near_cache::begin_tags(near_ticket& ticket, const key& k, std::span<const stamped_tag> tags) const {
  ticket.tag_changes.clear();
  for (const stamped_tag& each : tags) {
    ticket.tag_changes.push_back(tracking_->changes().of(near_hash(tag_stamp_key(k.tenant(), each.name))));
  }
}

void near_cache::note_stamp(const near_ticket& ticket, const key& k, const tenant_stamp& now) {
  tracking_->stamps().note(
      stamp_key(k.tenant()), now.str(),
      {.epoch = ticket.epoch, .under = under(now), .tags = tags_of(now), .read_at = ticket.sent_at},
      tracking_->changes(), ticket.stamp_changes);
}

void near_cache::note_tags(const near_ticket& ticket, const key& k, std::span<const stamped_tag> tags,
                           std::span<const std::optional<tag_stamp>> now) {
  for (std::size_t i = 0; i < std::min(tags.size(), now.size()); ++i) {
    if (!now[i]) continue;
    tracking_->stamps().note(tag_stamp_key(k.tenant(), tags[i].name), now[i]->str(),
                             {.epoch = ticket.epoch, .under = under(*now[i]), .read_at = ticket.sent_at},
                             tracking_->changes(), ticket.tag_changes[i]);
  }
}

void near_cache::keep(const near_ticket& ticket, const key& k, const near_candidate& what) noexcept {
  const std::int64_t life = std::min(max_age_, what.life > max_age_ / ms ? max_age_ : what.life * ms);
  if (life <= coarse_step) return;
  bool kept = false;
  try {
    kept = try_to_keep(ticket, k, what, life);
  } catch (...) {  // no memory for it, or the codec cannot say how much it takes
  }
  (kept ? stores_ : refused_).fetch_add(1, std::memory_order_relaxed);
}

bool near_cache::try_to_keep(const near_ticket& ticket, const key& k, const near_candidate& what, std::int64_t life) {
  const std::string& name = k.str();
  const std::uint64_t hash = near_hash(name);
  entry made{.value = what.value,
             .until = ticket.sent_at + life,
             .computed_at = what.header.computed_at.count(),
             .epoch = ticket.epoch};
  std::size_t size = what.value ? codec_.memory(what.value.get(), what.payload) : 0;
  if (!bare_) {
    made.tenant = tracking_->stamps().of(stamp_key(k.tenant()));
    made.under = under(what.header.stamp);
    made.tags = tags_of(what.header.stamp);
    if (!what.header.tags.empty()) {
      auto tagged = std::make_unique<std::vector<tag_of_value>>();
      tagged->reserve(what.header.tags.size());
      for (const stamped_tag& each : what.header.tags) {
        tagged->push_back(
            {.stamp = tracking_->stamps().of(tag_stamp_key(k.tenant(), each.name)), .under = under(each.stamp)});
      }
      size += sizeof(std::vector<tag_of_value>) + tagged->size() * sizeof(tag_of_value);
      made.tagged = std::move(tagged);
    }
  }
  return table_.insert(
      hash, name, std::move(made), size,
      [&] { return tracking_->changes().of(hash) == ticket.value_changes && tracking_->epoch() == ticket.epoch; },
      [this, at = coarse_now(), epoch = tracking_->epoch()](const entry& one) {
        return one.epoch != epoch || one.until <= at;
      });
}

near_stats near_cache::stats() const {
  const near_tracking::counts shared = tracking_->counted();
  return {.tracking = tracking_->active(),
          .values = table_.size(),
          .bytes = table_.bytes(),
          .hits = hits_.sum(),
          .absent = absent_.sum(),
          .stores = stores_.load(std::memory_order_relaxed),
          .refused = refused_.load(std::memory_order_relaxed),
          .evictions = table_.evictions(),
          .invalidations = shared.invalidations,
          .flushes_push_lost = shared.flushes_push_lost,
          .flushes_lane_lost = shared.flushes_lane_lost,
          .flushes_by_server = shared.flushes_by_server,
          .push_delay = shared.push_delay};
}

}  // namespace tenantry::detail
