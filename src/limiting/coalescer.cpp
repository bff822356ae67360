#include "limiting/coalescer.hpp"

#include <algorithm>
#include <thread>
#include <utility>

namespace tenantry::detail {

namespace {

/// A call takes about as long as a few other threads run for, so most need not sleep.
constexpr int yields_before_sleep = 16;

}  // namespace

using state = coalesced_request::state;

void coalescer::wakeups::add(coalesced_request& whom) {
  if (whom.bed_ != nullptr) threads.push_back(whom.bed_);
  if (whom.wake_.stop_possible()) coroutines.push_back(std::move(whom.wake_));
}

void coalescer::wakeups::run() const {
  for (parker* each : threads) each->wake();
  for (const std::stop_source& each : coroutines) each.request_stop();
}

coalescer::line* coalescer::line_of(shard& in, const coalesced_request& one) {
  const auto found = std::ranges::find_if(in.lines, [&](const line& each) { return each.leader->goes_with(one); });
  return found == in.lines.end() ? nullptr : &*found;
}

void coalescer::join(coalesced_request& mine) {
  shard& in = shard_of(mine);
  const std::lock_guard held{in.mutex};
  line* const there = line_of(in, mine);
  if (there == nullptr) {
    in.lines.push_back({.leader = &mine, .next = {}});
    mine.now_.store(state::leads, std::memory_order_release);
    return;
  }
  if (!there->next) there->next = std::make_shared<coalesced_call>();
  there->next->requests.push_back(&mine);
  mine.call_ = there->next;
}

std::uint64_t coalescer::begin(coalesced_request& mine) {
  if (!mine.call_) return 1;
  shard& in = shard_of(mine);
  const std::lock_guard held{in.mutex};
  line_of(in, mine)->next.reset();  // who comes from now on is for the one after it
  std::uint64_t rank = 0;
  for (coalesced_request* each : mine.call_->requests) each->rank_ = rank++;
  return rank;
}

/// Without the lock, and after their state was set, those who wait may be gone.
void coalescer::hand_on(shard& in, line& after, wakeups& woken) {
  if (after.next && !after.next->requests.empty()) {
    after.leader = after.next->requests.back();
    woken.add(*after.leader);
    after.leader->now_.store(state::leads, std::memory_order_release);
    return;
  }
  if (&after != &in.lines.back()) after = std::move(in.lines.back());
  in.lines.pop_back();
}

void coalescer::end(coalesced_request& mine, const limit_answer* answer, std::shared_ptr<const error> failure,
                    std::chrono::steady_clock::time_point received) {
  shard& in = shard_of(mine);
  wakeups woken;
  {
    const std::lock_guard held{in.mutex};
    hand_on(in, *line_of(in, mine), woken);
    if (mine.call_) {
      if (answer != nullptr) mine.call_->answer = *answer;
      mine.call_->failure = std::move(failure);
      mine.call_->received = received;
      for (coalesced_request* each : mine.call_->requests) {
        if (each != &mine) woken.add(*each);
        each->now_.store(state::ended, std::memory_order_release);
      }
    }
  }
  woken.run();
}

std::optional<execution> coalescer::leave(coalesced_request& mine) {
  shard& in = shard_of(mine);
  const std::lock_guard held{in.mutex};
  if (mine.now() != state::waits) return std::nullopt;
  auto& all = mine.call_->requests;
  const line* const there = line_of(in, mine);
  const bool collecting = there != nullptr && there->next == mine.call_;
  std::erase(all, &mine);
  return collecting ? execution::not_sent : execution::unknown;
}

void coalescer::sleep_until(coalesced_request& mine, std::chrono::steady_clock::time_point limit) {
  for (int i = 0; i < yields_before_sleep; ++i) {
    if (mine.now() != state::waits) return;
    std::this_thread::yield();
  }
  shard& in = shard_of(mine);
  std::unique_lock held{in.mutex};
  if (mine.now() != state::waits) return;
  parker& bed = in.beds.take();
  bed.prepare();
  mine.bed_ = &bed;
  while (mine.now() == state::waits && std::chrono::steady_clock::now() < limit) {
    held.unlock();
    bed.sleep(limit);
    held.lock();
  }
  mine.bed_ = nullptr;
  in.beds.give_back(bed);
}

std::size_t coalescer::waiting(const coalesced_request& leader) {
  shard& in = shard_of(leader);
  const std::lock_guard held{in.mutex};
  const line* const there = line_of(in, leader);
  return there != nullptr && there->next ? there->next->requests.size() : 0;
}

std::stop_token coalescer::changed(coalesced_request& mine) {
  shard& in = shard_of(mine);
  const std::lock_guard held{in.mutex};
  std::stop_source source;
  std::stop_token token = source.get_token();  // NOLINT(misc-const-correctness): returned
  if (mine.now() == state::waits) {
    mine.wake_ = std::move(source);
  } else {
    source.request_stop();
  }
  return token;
}

}  // namespace tenantry::detail
