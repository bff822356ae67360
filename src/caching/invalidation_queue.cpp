#include "caching/invalidation_queue.hpp"

#include "engine/seam.hpp"

#include <tenantry/detail/ttl.hpp>
#include <tenantry/observer.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

namespace tenantry::detail {

namespace {

constexpr std::size_t most_at_once = 64;
constexpr std::chrono::milliseconds shortest_pause{50};
constexpr std::chrono::milliseconds longest_pause{1000};

/// Of a key, or of all keys of a tenant.
std::size_t hash_of(const std::string& name) noexcept { return std::hash<std::string>{}(name); }

std::int64_t as_integer(std::size_t count) noexcept { return static_cast<std::int64_t>(count); }

}  // namespace

/// Those that are sent together.
struct invalidation_queue::batch {
  std::vector<command> commands;
  std::vector<std::uint64_t> numbers;
  std::vector<std::size_t> sizes;  // in commands
};

std::shared_ptr<invalidation_queue> invalidation_queue::of(const client& redis) {
  return seam::shared_part<invalidation_queue>(redis, [&redis] { return std::make_shared<invalidation_queue>(redis); });
}

bool invalidation_queue::add(invalidation what, const error& why) {
  seam::check_open(redis_);  // an open breaker may hide it
  bool idle = false;
  std::uint64_t number = 0;
  const tenant_id tenant = what.tenant;
  note(what);
  {
    const std::lock_guard held{mutex_};
    const auto same =
        std::ranges::find(waiting_, what.name, [](const entry& each) -> const std::string& { return each.what.name; });
    if (same != waiting_.end()) {
      *same = {std::move(what), ++last_};
    } else {
      if (waiting_.size() >= most) return false;
      waiting_.push_back({std::move(what), ++last_});
      size_.store(waiting_.size(), std::memory_order_release);
    }
    number = last_;
    idle = !std::exchange(working_, true);
  }
  seam::notify(redis_, events::invalidation_queued,
               {{.name = "tenant", .value = std::string_view{tenant.str()}},
                {.name = "code", .value = to_string(why.code())},
                {.name = "waiting", .value = as_integer(size())}});
  return !idle || begin(number);
}

bool invalidation_queue::begin(std::uint64_t number) noexcept {
  const auto stopped = [](invalidation_queue& self) {
    const std::lock_guard held{self.mutex_};
    self.working_ = false;
  };
  try {
    start(work(shared_from_this()), [stopped, self = shared_from_this()](const std::exception_ptr& fault) {
      if (fault) stopped(*self);
    });
  } catch (...) {
    stopped(*this);
  }
  const std::lock_guard held{mutex_};
  return working_ || std::ranges::find(waiting_, number, &entry::number) == waiting_.end();
}

std::uint64_t invalidation_queue::find(const key& k) const {
  const tenant_id tenant = k.tenant();
  const std::lock_guard held{mutex_};
  std::uint64_t last = 0;
  for (const entry& each : waiting_) {
    const bool concerns = each.what.tenant == tenant && (each.what.key.empty() || each.what.key == k.str());
    if (concerns) last = std::max(last, each.number);
  }
  return last;
}

void invalidation_queue::note(const invalidation& what) noexcept {
  const std::string& whole = what.key.empty() ? what.tenant.str() : what.key;
  changes_[hash_of(whole) % changes_.size()].fetch_add(1, std::memory_order_release);
}

std::uint64_t invalidation_queue::changes(const key& k) const noexcept {
  return changes_[hash_of(k.str()) % changes_.size()].load(std::memory_order_acquire) +
         changes_[hash_of(k.tenant().str()) % changes_.size()].load(std::memory_order_acquire);
}

invalidation_queue::batch invalidation_queue::first() const {
  batch all;
  const std::lock_guard held{mutex_};
  for (std::size_t i = 0; i < waiting_.size() && i < most_at_once; ++i) {
    const std::vector<request> requests = waiting_[i].what.requests();
    for (const request& each : requests) all.commands.push_back(each.encoded(true));
    all.numbers.push_back(waiting_[i].number);
    all.sizes.push_back(requests.size());
  }
  return all;
}

bool invalidation_queue::settle(const batch& sent, const std::vector<reply>& replies) {
  bool progress = false;
  std::size_t delivered = 0;
  std::optional<server_error> refused;
  std::size_t dropped = 0;
  {
    const std::lock_guard held{mutex_};
    std::size_t next = 0;
    std::vector<std::uint64_t> done;
    std::vector<std::uint64_t> refusals;
    for (std::size_t i = 0; i < sent.numbers.size(); ++i) {
      const reply& first = replies[next];  // what follows it only wakes those who wait
      next += sent.sizes[i];
      if (first.is_error()) {
        const server_error why{"invalidation", first.error_text()};
        if (passes_by_itself(why)) continue;
        refused.emplace(why);
      }
      progress = true;
      (first.is_error() ? refusals : done).push_back(sent.numbers[i]);
    }
    // Nothing where one was queued again meanwhile: that one is still to be delivered.
    const auto take = [this](std::vector<std::uint64_t>& numbers) {
      std::ranges::sort(numbers);
      return std::erase_if(waiting_,
                           [&](const entry& each) { return std::ranges::binary_search(numbers, each.number); });
    };
    if (!done.empty()) delivered = take(done);
    if (!refusals.empty()) dropped = take(refusals);
    size_.store(waiting_.size(), std::memory_order_release);
  }
  if (delivered > 0) {
    seam::notify(redis_, events::invalidations_delivered, {{.name = "count", .value = as_integer(delivered)}});
  }
  if (dropped > 0) {
    seam::notify(redis_, events::invalidations_dropped,
                 {{.name = "count", .value = as_integer(dropped)},
                  {.name = "code", .value = to_string(refused->code())},
                  {.name = "detail", .value = std::string_view{refused->what()}}});
  }
  return progress;
}

task<void> invalidation_queue::work(std::shared_ptr<invalidation_queue> self) {
  const caller& by = self->redis_;  // which does not send the same stamp again
  int failures = 0;
  for (;;) {
    {
      const std::lock_guard held{self->mutex_};
      if (self->waiting_.empty()) {
        self->working_ = false;
        co_return;
      }
    }
    const batch sent = self->first();
    bool progress = false;
    bool closed = false;
    try {
      auto sending = seam::execute_apart(by, sent.commands);
      const std::vector<reply> replies = co_await std::move(sending);
      progress = self->settle(sent, replies);
    } catch (const error& why) {
      closed = why.code() == errc::closed;
    }
    if (closed) co_return;  // and the client may be gone
    failures = progress ? 0 : std::min(failures + 1, 16);
    if (failures == 0) continue;
    const auto most_of_it = doubled(shortest_pause, failures - 1, longest_pause);
    const auto rest = between(most_of_it / 2, most_of_it, random_unit());
    auto pausing = seam::pause_apart(self->redis_, std::chrono::steady_clock::now() + rest);
    const bool open = co_await std::move(pausing);
    if (!open) co_return;
  }
}

}  // namespace tenantry::detail
