#include "caching/near_tracking.hpp"

#include "caching/near_cache.hpp"
#include "caching/near_clock.hpp"
#include "caching/near_write.hpp"

#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>
#include <variant>

namespace tenantry::detail {

namespace {

constexpr std::string_view no_such_client = "redirect to does not exist";

/// What passes: the server is busy, or the connection on which it had agreed has ended a moment ago. Anything else will
/// not change by asking again.
bool passes(const std::string& text) {
  if (text.find("CACHING can be called only when") != std::string::npos) return true;
  const errc code = server_error{"CLIENT", text}.code();
  return code == errc::not_ready || code == errc::auth || code == errc::out_of_memory || code == errc::read_only;
}

}  // namespace

near_tracking::near_tracking(const client& redis, std::shared_ptr<cache_pushes> pushes)
    : redis_{redis},
      lost_lanes_{seam::lost_tracked_lanes(redis)},
      lanes_lost_before_{lost_lanes_.load()},
      pushes_{std::move(pushes)},
      joined_{*pushes_, *this, cache_pushes::hears::invalidations} {
  seam::watch_tracked_lanes(redis);
  {
    // What was confirmed before is not told again. That it is lost is told after this.
    const std::lock_guard held{mutex_};
    if (pushes_->connection().want(push_kind::channel, invalidation_channel) == standing::confirmed) listens();
  }
  near_write::add(*this);
}

near_tracking::~near_tracking() {
  if (!seam::forked(redis_)) near_write::remove(*this);
}

std::shared_ptr<near_tracking> near_tracking::of(const client& redis) {
  auto pushes = cache_pushes::of(redis);
  return seam::shared_part<near_tracking>(redis,
                                          [&] { return std::make_shared<near_tracking>(redis, std::move(pushes)); });
}

void near_tracking::add(near_cache& one) {
  const std::lock_guard held{mutex_};
  caches_.push_back(&one);
}

void near_tracking::remove(near_cache& one) noexcept {
  if (seam::forked(redis_)) return;  // a thread of the parent may have the lock
  const std::lock_guard held{mutex_};
  std::erase(caches_, &one);
}

/// Where a lane was lost the address may lead to another server by now, which would announce nothing to this
/// connection: so that is opened again as well.
std::optional<std::int64_t> near_tracking::redirect() {
  const std::int64_t id = redirect_.load(std::memory_order_acquire);
  if (id == 0) return std::nullopt;
  if (!pushes_->outlived_a_lane()) return id;
  push_connection& connection = pushes_->connection();
  if (const auto now = connection.connected_as()) connection.restart(now->generation, "a lane was lost");
  return std::nullopt;
}

void near_tracking::refused(const std::string& text, std::int64_t redirect) {
  for (auto& each : agreed_) each.store(never, std::memory_order_release);
  if (text.find(no_such_client) != std::string::npos) {
    // Where it is there still, the lane leads to another server.
    push_connection& connection = pushes_->connection();
    const auto now = connection.connected_as();
    if (now && now->client_id == redirect) connection.restart(now->generation, "no server knows it");
    return;
  }
  if (passes(text)) return;
  redirect_.compare_exchange_strong(redirect, 0);  // there may be another one by now
  if (refused_.exchange(true)) return;
  seam::notify(redis_, events::near_refused, {{.name = "detail", .value = std::string_view{text}}});
}

void near_tracking::listens() noexcept {
  if (const auto now = pushes_->connection().connected_as()) redirect_ = now->client_id;
}

void near_tracking::lost(bool by_itself) noexcept {
  {
    const std::lock_guard held{mutex_};
    redirect_ = 0;
  }
  if (by_itself) lost_by_itself_.fetch_add(1, std::memory_order_relaxed);
  flushes_.fetch_add(1, std::memory_order_acq_rel);
  for (awaited& each : awaited_) each.since.store(0, std::memory_order_relaxed);
}

/// On the I/O thread. Other names are those of wake-ups.
void near_tracking::told(const push_event& what) {
  const auto own = [&](const auto* event) { return event != nullptr && event->name == invalidation_channel; };
  if (const auto* some = std::get_if<push::invalidated>(&what)) {
    if (some->keys) {
      for (const std::string& each : *some->keys) changed(each);
    } else {
      flushed_by_server_.fetch_add(1, std::memory_order_relaxed);
      flushes_.fetch_add(1, std::memory_order_acq_rel);
    }
  } else if (own(std::get_if<push::confirmed>(&what))) {
    listens();
  } else if (const auto* refused = std::get_if<push::refused>(&what); own(refused)) {
    this->refused(refused->text, 0);
  } else if (own(std::get_if<push::lost>(&what))) {
    lost(true);
  } else if (std::holds_alternative<push::ended>(what)) {
    lost(!pushes_->outlived_a_lane());
  }
}

void near_tracking::changed(std::string_view name) noexcept {
  invalidations_.fetch_add(1, std::memory_order_relaxed);
  const std::uint64_t hash = near_hash(name);
  drop(name, hash);
  awaited& own = awaited_[hash % awaited_.size()];
  const std::int64_t since = own.since.load(std::memory_order_acquire);
  if (since == 0 || own.hash.load(std::memory_order_relaxed) != hash) return;
  own.since.store(0, std::memory_order_relaxed);
  const std::chrono::nanoseconds took{exact_now() - since};
  // Whatever comes later is about another write: the own one changed nothing.
  constexpr push_options beat = cache_pushes::near_heartbeat;
  if (took <= beat.heartbeat + beat.heartbeat_timeout) push_delay_.record(took);
}

/// The change is noted first: what is being read meanwhile is not taken over, or is there already and found.
std::uint64_t near_tracking::drop(std::string_view name, std::uint64_t hash) noexcept {
  changes_.note(hash);
  if (name.starts_with("stamp:{")) {
    stamps_.forget(name);
    return 0;
  }
  const std::lock_guard held{mutex_};
  std::uint64_t dropped = 0;
  for (near_cache* each : caches_) dropped += each->drop(hash, name) ? 1U : 0U;
  return dropped;
}

void near_tracking::wrote(std::string_view name, bool begins) noexcept {
  const std::uint64_t hash = near_hash(name);
  const bool was_kept = drop(name, hash) > 0;
  if (!begins || !was_kept) return;
  awaited& own = awaited_[hash % awaited_.size()];
  own.hash.store(hash, std::memory_order_relaxed);
  own.since.store(exact_now(), std::memory_order_release);
}

near_tracking::counts near_tracking::counted() const {
  return {.invalidations = invalidations_.load(std::memory_order_relaxed),
          .flushes_push_lost = lost_by_itself_.load(std::memory_order_relaxed),
          .flushes_lane_lost = lost_lanes_.load(std::memory_order_relaxed) - lanes_lost_before_,
          .flushes_by_server = flushed_by_server_.load(std::memory_order_relaxed),
          .push_delay = push_delay_.snapshot()};
}

}  // namespace tenantry::detail
