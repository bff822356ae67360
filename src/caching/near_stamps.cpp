#include "caching/near_stamps.hpp"

#include <algorithm>

namespace tenantry::detail {

near_stamps::entry& near_stamps::find(const std::string& name) {
  if (const auto there = all_.find(name); there != all_.end()) return there->second;
  if (all_.size() >= look_through_at_) {
    std::erase_if(all_, [](const auto& each) { return each.second.stamp.alone(); });
    look_through_at_ = std::max<std::size_t>(64, 2 * all_.size());
  }
  return all_.emplace(name, entry{.stamp = near_stamp_ref{new near_stamp}, .text = {}}).first->second;
}

near_stamp_ref near_stamps::of(const std::string& name) {
  const std::lock_guard held{mutex_};
  return find(name).stamp;
}

near_stamp_ref near_stamps::note(const std::string& name, std::string_view text, const near_stamp::known& now,
                                 const near_changes& changes, std::uint64_t before) {
  const std::lock_guard held{mutex_};
  entry& one = find(name);
  near_stamp::known last;
  const bool newer =
      !one.stamp->read(last) || last.epoch < now.epoch || (last.epoch == now.epoch && last.read_at < now.read_at);
  if (!newer || changes.of(near_hash(name)) != before) return one.stamp;
  one.text = text;
  one.stamp.what_->write(now);
  return one.stamp;
}

std::string near_stamps::text_of(std::string_view name, std::uint64_t epoch, std::int64_t since) const {
  const std::lock_guard held{mutex_};
  const auto there = all_.find(name);
  near_stamp::known now;
  if (there == all_.end() || !there->second.stamp->read(now)) return {};
  return now.epoch == epoch && now.read_at >= since ? there->second.text : std::string{};
}

void near_stamps::forget(std::string_view name) noexcept {
  const std::lock_guard held{mutex_};
  if (const auto there = all_.find(name); there != all_.end()) there->second.stamp.what_->forget();
}

std::size_t near_stamps::size() const {
  const std::lock_guard held{mutex_};
  return all_.size();
}

}  // namespace tenantry::detail
