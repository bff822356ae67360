#include "limiting/local_permits.hpp"

#include "engine/seam.hpp"

namespace tenantry::detail {

std::shared_ptr<local_permits> local_permits::of(const client& redis) {
  return seam::shared_part<local_permits>(redis, [] { return std::make_shared<local_permits>(); });
}

std::optional<local_permits::seat> local_permits::take(const std::string& key, std::uint64_t most,
                                                       std::uint64_t& taken) {
  seat made{shared_from_this(), key};
  {
    const std::lock_guard held{mutex_};
    const auto found = by_key_.find(key);
    taken = found == by_key_.end() ? 0 : found->second;
    if (taken < most) {
      taken = found == by_key_.end() ? by_key_.emplace(key, 1).first->second : ++found->second;
      return made;
    }
  }
  made.abandon();
  return std::nullopt;
}

void local_permits::seat::leave() noexcept {
  const std::shared_ptr<local_permits> all = std::move(of_);
  if (!all) return;
  const std::lock_guard held{all->mutex_};
  const auto found = all->by_key_.find(key_);
  if (found != all->by_key_.end() && --found->second == 0) all->by_key_.erase(found);
}

}  // namespace tenantry::detail
