#include "ingest.hpp"

#include <tenantry/error.hpp>
#include <tenantry/tag.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

namespace gateway {

namespace {

/// Readings do not wait for longer while many alarms are appended.
constexpr std::chrono::milliseconds flush_for{100};

/// What would fail in the same way for every tenant and key: Redis is away, not ready, or takes no writes.
bool concerns_all(const tenantry::error& why) noexcept {
  using enum tenantry::errc;
  switch (why.code()) {
    case invalid_name:
    case invalid_option:
    case encode:
    case wrong_type:
    case no_permission:
      return false;
    default:
      return true;
  }
}

bool can_never_be(const tenantry::error& why) noexcept {
  using enum tenantry::errc;
  return why.code() == invalid_name || why.code() == invalid_option || why.code() == encode;
}

std::int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

}  // namespace

ingest::ingest(store& into, const tenantry::event_log<alarm>& log, tenantry::cache<health>& healths,
               const tenantry::invalidator& invalidator, ingest_options options)
    : store_{into},
      log_{log},
      healths_{healths},
      invalidator_{invalidator},
      options_{std::move(options)},
      queue_{options_.queue},
      thread_{[this] { run(); }} {}

ingest::~ingest() { stop(); }

bool ingest::offer(std::string_view topic, std::string_view payload) {
  // One byte too many says as much as a gigabyte.
  return queue_.push({.topic = std::string{topic}, .payload = std::string{payload.substr(0, max_payload + 1)}});
}

ingest_counters ingest::counters() const {
  const std::lock_guard held{mutex_};
  return counters_;
}

void ingest::stop(std::chrono::milliseconds patience) noexcept {
  {
    const std::lock_guard held{mutex_};
    if (!give_up_at_) give_up_at_ = clock::now() + patience;
  }
  queue_.close();
  const std::lock_guard once{joining_};
  if (thread_.joinable()) thread_.join();
}

void ingest::run() {
  for (;;) {
    std::vector<raw> all = queue_.take(room(), next_due());
    const bool drained = all.empty() && queue_.drained();
    take_in(std::move(all));
    append_alarms();
    expire_what_is_due();
    if (!drained) continue;
    if (settled() || out_of_patience()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
  count([this](ingest_counters& c) {
    c.alarms_dropped += held_.size();
    c.alarms_held = 0;
  });
}

/// How many messages to take. While Redis takes alarms more slowly than they come, the others wait in the queue, and
/// not as held alarms, which are dropped when there are too many.
std::size_t ingest::room() const {
  if (redis_fails_) return options_.batch;
  const std::size_t most = (options_.held + 1) / 2;
  return std::min(options_.batch, most - std::min(most, held_.ready(clock::now())));
}

void ingest::take_in(std::vector<raw> all) {
  std::vector<arrived> reports;
  for (raw& one : all) {
    count([](ingest_counters& c) { ++c.received; });
    if (auto came = admit(std::move(one))) reports.push_back(std::move(*came));
  }
  append_alarms();  // people wait for these
  if (!reports.empty()) write(reports);
}

/// Holds an alarm, and returns a report.
std::optional<ingest::arrived> ingest::admit(raw one) {
  try {
    message came = parse(one.topic, one.payload);
    bool known = false;
    const bool answered = in_store([&] {
      known = store_.has_gateway(came.tenant, came.gateway);
      if (!known && !store_.has_tenant(came.tenant)) throw refused{refusal::unknown_tenant, "there is no such tenant"};
    });
    if (!answered) return std::nullopt;
    if (!known) throw refused{refusal::unknown_gateway, "the tenant has no such gateway"};
    if (auto* const raised = std::get_if<alarm>(&came.what)) {
      held_.push(came.tenant, std::move(*raised));
      return std::nullopt;
    }
    return arrived{.topic = std::move(one.topic), .from = std::move(came)};
  } catch (const refused& no) {
    refuse(no.why(), one.topic, no.what());
    return std::nullopt;
  }
}

void ingest::write(const std::vector<arrived>& reports) {
  std::vector<store::batch> batches;
  batches.reserve(reports.size());
  for (const auto& [topic, from] : reports) {
    batches.push_back(
        {.tenant = from.tenant, .gateway = from.gateway, .readings = std::get<report>(from.what).readings});
  }
  std::vector<store::added> done;
  if (!in_store([&] { done = store_.add(batches); })) return;

  for (std::size_t i = 0; i < done.size(); ++i) {
    count([&](ingest_counters& c) {
      c.new_readings += static_cast<std::uint64_t>(done[i].new_readings);
      c.duplicate_readings += static_cast<std::uint64_t>(done[i].duplicates);
    });
    if (done[i].new_readings > 0) tenants_[batches[i].tenant].changed = true;
    if (done[i].refused > 0) {
      refuse(refusal::unknown_meter, reports[i].topic,
             fmt::format("{} of {} readings are of meters that are not behind this gateway", done[i].refused,
                         batches[i].readings.size()));
    }
  }
  put_health(reports, done);
}

/// The last report of each gateway is what counts.
void ingest::put_health(const std::vector<arrived>& reports, const std::vector<store::added>& done) {
  std::map<std::pair<tenantry::tenant_id, std::string>, std::size_t> last;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const message& from = reports[i].from;
    if (done[i].new_readings + done[i].duplicates > 0) last.insert_or_assign({from.tenant, from.gateway}, i);
  }
  for (const auto& [whose, i] : last) {
    if (!may_ask_redis()) return;  // the next report says it again
    const auto& what = std::get<report>(reports[i].from.what);
    try {
      healths_.put(gateway_health(whose.first, whose.second),
                   health{.gateway = whose.second,
                          .last_seen = unix_seconds(),
                          .readings = static_cast<std::int64_t>(what.readings.size()),
                          .firmware = what.firmware});
      redis_answered();
      count([](ingest_counters& c) { ++c.health_puts; });
    } catch (const tenantry::error& why) {
      redis_failed(why);
    }
  }
}

void ingest::append_alarms() {
  if (may_ask_redis()) {
    const auto now = clock::now();
    held_.flush(now, now + options_.retry_every, now + flush_for,
                [this](const tenantry::tenant_id& tenant, const alarm& one) { return append(tenant, one); });
  }
  const std::size_t dropped = held_.trim(options_.held);
  count([&](ingest_counters& c) {
    c.alarms_dropped += dropped;
    c.alarms_held = held_.size();
  });
}

held_alarms::outcome ingest::append(const tenantry::tenant_id& tenant, const alarm& one) {
  try {
    log_.append_once(tenant, one, one.id);
    redis_answered();
    const bool first = appended_.insert(tenant.str() + '/' + one.id);
    count([&](ingest_counters& c) {
      ++c.alarms_appended;
      if (!first) ++c.alarms_duplicate;
    });
    return held_alarms::outcome::done;
  } catch (const tenantry::error& why) {
    redis_failed(why);
    if (can_never_be(why)) {
      count([](ingest_counters& c) { ++c.alarms_dropped; });
      return held_alarms::outcome::done;
    }
    return concerns_all(why) ? held_alarms::outcome::all_later : held_alarms::outcome::tenant_later;
  }
}

void ingest::expire_what_is_due() {
  for (auto& [tenant, state] : tenants_) {
    if (!may_ask_redis()) return;
    if (!state.changed || (due(state) > clock::now() && !queue_.closed())) continue;
    try {
      invalidator_.expire(tenantry::tag{tenant, kpi_tag});
      state.changed = false;
      redis_answered();
      count([](ingest_counters& c) { ++c.expires; });
    } catch (const tenantry::error& why) {
      redis_failed(why);
    }
    state.expired_at = clock::now();
  }
}

bool ingest::in_store(const std::function<void()>& what) {
  for (;;) {
    try {
      what();
      store_fails_ = false;
      return true;
    } catch (const refused&) {
      throw;
    } catch (const std::exception& why) {
      count([](ingest_counters& c) { ++c.store_failures; });
      if (!std::exchange(store_fails_, true) && options_.on_failure) options_.on_failure("store", why.what());
    }
    if (out_of_patience()) return false;
    std::this_thread::sleep_for(options_.retry_every);
    append_alarms();
    expire_what_is_due();
  }
}

void ingest::redis_failed(const tenantry::error& why) {
  count([](ingest_counters& c) { ++c.redis_failures; });
  if (!concerns_all(why)) {
    if (options_.on_failure) options_.on_failure("redis", why.what());
    return;
  }
  redis_again_at_ = clock::now() + options_.retry_every;
  if (!std::exchange(redis_fails_, true) && options_.on_failure) options_.on_failure("redis", why.what());
}

void ingest::refuse(refusal why, std::string_view topic, std::string_view detail) {
  count([&](ingest_counters& c) { ++c.refused.at(static_cast<std::size_t>(why)); });
  if (options_.on_refused) options_.on_refused(why, topic, detail);
}

ingest::clock::time_point ingest::due(const freshness& of) const {
  return of.expired_at ? *of.expired_at + options_.expire_every : clock::time_point{};
}

/// When something is to be done although no message comes.
ingest::clock::time_point ingest::next_due() const {
  auto next = clock::now() + std::chrono::hours{1};
  if (const auto at = held_.due()) next = std::min(next, *at);
  for (const auto& [tenant, state] : tenants_) {
    if (state.changed) next = std::min(next, due(state));
  }
  return redis_fails_ ? std::max(next, redis_again_at_) : next;
}

bool ingest::settled() const {
  return held_.size() == 0 && std::ranges::none_of(tenants_, [](const auto& each) { return each.second.changed; });
}

bool ingest::out_of_patience() const {
  const std::lock_guard held{mutex_};
  return give_up_at_ && clock::now() >= *give_up_at_;
}

}  // namespace gateway
