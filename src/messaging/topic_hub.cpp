#include "messaging/topic_hub.hpp"

#include <tenantry/detail/rendered_name.hpp>
#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>
#include <variant>

namespace tenantry::detail {

namespace {

std::int64_t as_integer(std::uint64_t count) noexcept { return static_cast<std::int64_t>(count); }

std::size_t index_of(push_kind kind) noexcept { return static_cast<std::size_t>(kind); }

/// What the server was asked for.
std::string_view command_of(push_kind kind) noexcept {
  switch (kind) {
    case push_kind::channel:
      return "SUBSCRIBE";
    case push_kind::pattern:
      return "PSUBSCRIBE";
    case push_kind::shard:
      break;
  }
  return "SSUBSCRIBE";
}

}  // namespace

topic_hub::topic_hub(const client& redis, const subscriber_options& how, std::shared_ptr<histogram_recorder> times)
    : redis_{redis},
      how_{.heartbeat = how.heartbeat, .heartbeat_timeout = how.heartbeat_timeout},
      times_{std::move(times)} {
  if (how.probe) prober_ = std::make_shared<prober>(redis, *how.probe);
}

/// With the lock held.
void topic_hub::open() {
  connection_ = seam::open_push_connection(redis_, how_, [this](push_event& what) { told(what); });
  if (prober_) prober::begin(prober_, *connection_);
}

topic* topic_hub::find(push_kind kind, const std::string& name) {
  const auto found = topics_[index_of(kind)].find(name);
  return found == topics_[index_of(kind)].end() ? nullptr : found->second.get();
}

void topic_hub::join(feed& one, push_kind kind, const std::string& name, const tenant_id& tenant) {
  const std::lock_guard held{mutex_};
  if (stopped_) {
    one.end({.cause = closed_cause::stopped,
             .why = std::make_shared<const error>(errc::closed, execution::not_sent, "the subscriber has ended")});
    return;
  }
  if (!connection_) open();
  std::unique_ptr<topic>& there = topics_[index_of(kind)][name];
  if (!there) there = std::make_unique<topic>(topic{.kind = kind, .name = name, .tenant = tenant, .feeds = {}});
  one.place = there->feeds.size();
  there->feeds.push_back(&one);
  one.in = there.get();
  ++subscriptions_;
  // Where messages arrive already there is nothing to wait for.
  try {
    if (connection_->want(kind, name) == standing::confirmed) one.activate();
  } catch (...) {  // out of memory: who is not subscribed is not to be told either
    reports none;
    remove(one, none);
    throw;
  }
}

/// With the lock held.
void topic_hub::note_end(const feed& one, const topic& of, reports& later) const {
  if (!one.begun || !seam::observed(redis_)) return;
  later.push_back({.name = events::unsubscribed, .tenant = of.tenant.str(), .channel = of.name});
}

/// With the lock held.
void topic_hub::remove(feed& one, reports& later) noexcept {
  topic& of = *one.in;
  note_end(one, of, later);
  of.feeds.back()->place = one.place;
  of.feeds[one.place] = of.feeds.back();
  of.feeds.pop_back();
  one.in = nullptr;
  one.active = false;
  --subscriptions_;
  if (!of.feeds.empty()) return;
  connection_->unwant(of.kind, of.name);
  const std::string name = std::move(of.name);
  topics_[index_of(of.kind)].erase(name);
}

void topic_hub::leave(feed& one) noexcept {
  if (forked()) return;
  reports told_later;
  {
    const std::lock_guard held{mutex_};
    if (one.in == nullptr) return;
    remove(one, told_later);
  }
  tell(told_later);
}

void topic_hub::stop() {
  if (forked()) {
    if (connection_) connection_->abandon();  // it is the parent's
    kept_ = shared_from_this();               // the fork may have met a change of it half done
    return;
  }
  std::unique_ptr<push_connection> ending;
  reports told_later;
  {
    const std::lock_guard held{mutex_};
    stopped_ = true;
    for (topics& all : topics_) {
      for (auto& [name, of] : all) {
        for (feed* each : of->feeds) {
          note_end(*each, *of, told_later);
          each->in = nullptr;
          each->end(
              {.cause = closed_cause::stopped,
               .why = std::make_shared<const error>(errc::closed, execution::not_sent, "the subscriber has ended")});
        }
      }
      all.clear();
    }
    subscriptions_ = 0;
    if (prober_) prober_->stop();
    ending = std::move(connection_);
  }
  ending.reset();
  tell(told_later);
}

void topic_hub::told(push_event& what) {
  reports told_later;
  {
    const std::lock_guard held{mutex_};
    if (prober_ && prober_->take(what)) return;
    if (auto* const came = std::get_if<push::message>(&what)) {
      take(*came, told_later);
    } else if (const auto* const begins = std::get_if<push::confirmed>(&what)) {
      confirm(begins->kind, begins->name, told_later);
    } else if (const auto* const refused = std::get_if<push::refused>(&what)) {
      refuse(refused->kind, refused->name, refused->text, told_later);
    } else if (const auto* const lost = std::get_if<push::lost>(&what)) {
      if (topic* const of = find(lost->kind, lost->name)) begin_outage(*of, gap_cause::server_unsubscribed);
    } else if (const auto* const ended = std::get_if<push::ended>(&what)) {
      ++outages_;
      const bool probed = prober_ && prober_->has_ended(ended->generation);
      for (const topics& all : topics_) {
        for (const auto& [name, of] : all) {
          begin_outage(*of, probed ? gap_cause::probe_failed : gap_cause::connection_lost);
        }
      }
    }
  }
  tell(told_later);
}

/// Without the lock.
void topic_hub::tell(const reports& all) const noexcept {
  for (const report& each : all) {
    if (each.name == events::unsubscribed) {
      seam::notify(redis_, each.name,
                   {{.name = "tenant", .value = std::string_view{each.tenant}},
                    {.name = "channel", .value = std::string_view{each.channel}}});
    } else if (each.name == events::gap) {
      seam::notify(redis_, each.name,
                   {{.name = "tenant", .value = std::string_view{each.tenant}},
                    {.name = "channel", .value = std::string_view{each.channel}},
                    {.name = "cause", .value = to_string(each.cause)},
                    {.name = "milliseconds", .value = each.span.count()},
                    {.name = "listeners", .value = as_integer(each.count)}});
    } else {
      seam::notify(redis_, each.name,
                   {{.name = "tenant", .value = std::string_view{each.tenant}},
                    {.name = "channel", .value = std::string_view{each.channel}},
                    {.name = "dropped", .value = as_integer(each.count)}});
    }
  }
}

void topic_hub::take(push::message& what, reports& later) {
  ++messages_;
  topic* const of = find(what.kind, what.kind == push_kind::pattern ? what.pattern : what.channel);
  if (of == nullptr) return;  // nobody listens any more
  // The server has matched it; that it stays within the tenant does not depend on the server.
  if (of->kind == push_kind::pattern && !glob_matches(of->name, what.channel)) {
    ++foreign_;
    return;
  }
  const auto now = clock::now();
  const auto all = static_cast<std::uint32_t>(of->feeds.size());
  // One owner for each listener at once, and one for this function.
  auto* const shared = new published{.channel = std::move(what.channel),
                                     .payload = std::move(what.payload),
                                     .received = now,
                                     .owners = all + 1,
                                     .timed = timed_.next(now, all)};
  std::uint32_t unused = 1;
  std::vector<feed*> ended;
  for (std::size_t i = 0; i < of->feeds.size(); ++i) {
    // Each is somewhere else in memory: the next ones are on their way meanwhile.
    if (i + 4 < of->feeds.size()) __builtin_prefetch(of->feeds[i + 4], 1);
    feed* const each = of->feeds[i];
    if (!each->active) {
      ++unused;
      continue;
    }
    ++deliveries_;
    const feed::outcome how = each->deliver(shared);
    if (how == feed::outcome::dropped) ++dropped_;
    if (how == feed::outcome::ended) ended.push_back(each);
  }
  shared->release(unused);
  if (dropped_ > 0 && now >= next_lagged_report_) {
    next_lagged_report_ = now + std::chrono::seconds{1};
    later.push_back(
        {.name = events::lagged, .tenant = of->tenant.str(), .channel = of->name, .count = std::exchange(dropped_, 0)});
  }
  for (feed* each : ended) remove(*each, later);
}

void topic_hub::confirm(push_kind kind, const std::string& name, reports& later) {
  topic* const of = find(kind, name);
  if (of == nullptr) return;
  std::uint64_t listeners = 0;
  gap last;
  for (feed* each : of->feeds) {
    if (each->outage_since) {
      last = {
          .cause = each->outage_cause, .from = *std::exchange(each->outage_since, std::nullopt), .to = clock::now()};
      each->tell(last);
      ++listeners;
    }
    if (!each->active) each->activate();
  }
  if (listeners == 0) return;
  later.push_back({.name = events::gap,
                   .tenant = of->tenant.str(),
                   .channel = of->name,
                   .count = listeners,
                   .cause = last.cause,
                   .span = std::chrono::duration_cast<std::chrono::milliseconds>(last.to - last.from)});
}

void topic_hub::refuse(push_kind kind, const std::string& name, const std::string& text, reports& later) {
  topic* const of = find(kind, name);
  if (of == nullptr) return;
  const auto why = std::make_shared<const server_error>(command_of(kind), text);
  const std::vector<feed*> all = of->feeds;
  for (feed* each : all) {
    each->end({.cause = closed_cause::refused, .why = why});
    remove(*each, later);
  }
}

void topic_hub::begin_outage(topic& of, gap_cause cause) {
  for (feed* each : of.feeds) {
    if (!std::exchange(each->active, false)) continue;  // it hears of the outage that goes on
    each->outage_since = clock::now();
    each->outage_cause = cause;
  }
}

std::string topic_hub::trouble() const {
  const std::lock_guard held{mutex_};
  if (!connection_) return {};
  const auto why = connection_->last_failure();
  return why ? why->detail : std::string{};
}

void topic_hub::add_to(subscriber_counters& all) const {
  if (forked()) return;
  const std::lock_guard held{mutex_};
  if (connection_ && connection_->connected_as()) ++all.connections;
  all.outages += outages_;
  for (const topics& each : topics_) all.channels += each.size();
  all.subscriptions += subscriptions_;
  all.messages += messages_;
  all.deliveries += deliveries_;
  all.foreign += foreign_;
}

}  // namespace tenantry::detail
