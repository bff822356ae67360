#include "caching/cache_pushes.hpp"

#include <algorithm>
#include <utility>
#include <variant>

namespace tenantry::detail {

cache_pushes::cache_pushes(const client& redis) : redis_{redis}, lost_lanes_{seam::lost_tracked_lanes(redis)} {}

cache_pushes::~cache_pushes() {
  if (connection_ && seam::forked(redis_)) {
    connection_->abandon();
    static_cast<void>(connection_.release());  // it is the parent's
  }
  if (connection_) push_connection::end(std::move(connection_));
}

std::shared_ptr<cache_pushes> cache_pushes::of(const client& redis) {
  return seam::shared_part<cache_pushes>(redis, [&redis] { return std::make_shared<cache_pushes>(redis); });
}

void cache_pushes::join(listener& one, hears what) {
  const std::lock_guard held{mutex_};
  auto place = std::ranges::find(listeners_, nullptr);
  if (place == listeners_.end()) place = listeners_.insert(place, nullptr);
  if (!connection_) {
    lanes_lost_before_ = lost_lanes_.load();
    connection_ = seam::open_push_connection(redis_, {}, [this](push_event& event) { told(event); });
  }
  if (what == hears::invalidations) {
    connection_->want(push_kind::channel, invalidation_channel);
    connection_->set_heartbeat(near_heartbeat);
    ++hear_invalidations_;
  }
  *place = &one;
}

void cache_pushes::leave(listener& one, hears what) noexcept {
  if (seam::forked(redis_)) return;  // a thread of the parent may have the lock
  {
    const std::lock_guard held{mutex_};
    *std::ranges::find(listeners_, &one) = nullptr;
    // Counted: the next one may join before the last has left.
    if (what == hears::invalidations && --hear_invalidations_ == 0) {
      connection_->unwant(push_kind::channel, invalidation_channel);
      connection_->set_heartbeat({});
    }
  }
  telling_.wait(&one);
}

/// On the I/O thread. Places do not move, so that nobody misses an event because another one leaves.
void cache_pushes::told(const push_event& what) {
  std::unique_lock held{mutex_};
  for (std::size_t next = 0; next < listeners_.size();) {  // which may become more
    listener* const one = listeners_[next++];
    if (one == nullptr) continue;
    telling_ = one;
    held.unlock();
    one->told(what);
    telling_ = nullptr;
    telling_.notify_all();
    held.lock();
  }
  if (std::holds_alternative<push::ended>(what)) lanes_lost_before_ = lost_lanes_.load();
}

}  // namespace tenantry::detail
