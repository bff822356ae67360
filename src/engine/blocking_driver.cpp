#include "engine/blocking_driver.hpp"

#include "engine/failures.hpp"
#include "engine/fork_count.hpp"
#include "engine/options.hpp"
#include "engine/random_fraction.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace tenantry::detail {

namespace {

// Threads that meet are run in turn by the kernel rather than put to sleep and woken one by one, which costs several
// times as much: they yield a few times before they sleep. docs/performance.md has the figures.
constexpr std::size_t crowd = 3;  // callers from which on it is worth it
constexpr int yields_before_sleep = 16;

/// What ends this thread's wait on a socket when a stop_token says so. Calls may be nested: an observer or a provider
/// of credentials may call another client. The child of a fork has others: parent and child would wake each other up.
class own_interrupt {
 public:
  explicit own_interrupt(bool wanted) {
    if (!wanted) return;
    if (made_in != fork_count()) {
      for (std::size_t i = in_use; i < made.size(); ++i) made[i] = std::make_unique<net::wakeup>();
      made_in = fork_count();
    }
    if (in_use == made.size()) made.push_back(std::make_unique<net::wakeup>());
    mine_ = made[in_use++].get();
    mine_->clear();
  }
  own_interrupt(const own_interrupt&) = delete;
  own_interrupt& operator=(const own_interrupt&) = delete;
  ~own_interrupt() { in_use -= mine_ != nullptr ? 1 : 0; }

  [[nodiscard]] const net::wakeup* get() const noexcept { return mine_; }

 private:
  static thread_local std::vector<std::unique_ptr<net::wakeup>> made;
  static thread_local std::size_t in_use;
  static thread_local std::uint64_t made_in;  // the process, by its forks

  const net::wakeup* mine_ = nullptr;
};

thread_local std::vector<std::unique_ptr<net::wakeup>> own_interrupt::made;
thread_local std::size_t own_interrupt::in_use = 0;
thread_local std::uint64_t own_interrupt::made_in = 0;

}  // namespace

blocking_driver::blocking_driver(const client_options& options, ownership whose, std::string_view name,
                                 std::atomic<std::uint64_t>* losses)
    : options_{options},
      whose_{whose},
      name_{name},
      stall_limit_{stall_limit(options)},
      losses_{losses},
      lane_{options.limits, options.bounds},
      news_{options.observer, endpoint(options), name} {}

blocking_driver::~blocking_driver() {
  begin_close(net::clock::now());
  wait_closed();
}

std::optional<failure> blocking_driver::run(std::span<const command> commands, std::span<reply> replies,
                                            const call_terms& terms) {
  blocking_call mine;
  mine.commands = commands;
  mine.replies = replies;
  mine.tenant = terms.tenant;
  mine.deadline = terms.deadline;
  mine.fail_fast = terms.fail_fast;
  const own_interrupt interrupt{terms.stop.stop_possible()};
  mine.interrupt = interrupt.get();
  lock held{mutex_};
  if (auto refused = admit(mine)) return refused;
  if (terms.repeated) lane_.counters().retries += commands.size();
  ++callers_;
  if (mine.interrupt != nullptr) {
    // Registered and removed without the mutex, because the callback takes it.
    held.unlock();
    {
      const std::stop_callback on_stop{terms.stop, [this, &mine] { stop(mine); }};
      held.lock();
      work(mine, held);
      held.unlock();
    }
    held.lock();
  } else {
    work(mine, held);
  }
  wake_finished(held);
  leave(mine);
  held.unlock();
  // The client may be gone from here on.
  if (mine.is(exchange::state::failed)) return std::move(mine.why);
  return std::nullopt;
}

std::optional<failure> blocking_driver::admit(blocking_call& mine) {
  if (closed_) return closed_before();
  if (link_.online()) check_idle_connection(net::clock::now());
  if (!link_.online()) {
    if (whose_ == ownership::exclusive && used_) return exclusive_lost();
    if (link_.last_failure()) {
      if (const failure* known = link_.refusal(mine.fail_fast, net::clock::now())) return *known;
    }
  }
  if (lane_.enqueue(mine)) return std::nullopt;
  return overloaded(mine.tenant);
}

void blocking_driver::work(blocking_call& mine, lock& held) noexcept {
  bool expired = false;
  while (!mine.settled() && !mine.stopped && !expired) {
    if (link_.now() == phase::offline) {
      expired = connect(mine, held);
    } else if (link_.online() && !broken_ && writer_ == nullptr && lane_.has_output()) {
      expired = write(mine, held);
    } else if (link_.online() && !broken_ && reader_ == nullptr) {
      expired = read(mine, held);
    } else {
      expired = wait_for_turn(mine, held, mine.deadline);
    }
  }
  if (!mine.settled()) give_up(mine);
  hand_on();
}

void blocking_driver::give_up(blocking_call& mine) {
  const bool staged = mine.is(exchange::state::staged);
  const execution what = lane_.abandon(mine);
  if (mine.stopped) {
    ++lane_.counters().cancelled;
  } else {
    lane_.count_timeout(staged);
  }
  mine.why = mine.stopped ? cancelled(what) : expired(link_, staged, what);
  mine.failed = true;
  mine.finish();
  if (staged && whose_ == ownership::exclusive) {
    break_connection(answer_not_awaited());
    leave_broken_connection();
  }
}

bool blocking_driver::wait_for_turn(blocking_call& mine, lock& held, net::clock::time_point deadline) {
  if (!finished_.empty() || !news_.empty()) {
    wake_finished(held);
    return false;  // what it waits for may have come meanwhile
  }
  if (callers_ >= crowd && !mine.dozed) {
    mine.dozed = true;
    held.unlock();
    for (int i = 0; i < yields_before_sleep && !mine.settled(); ++i) std::this_thread::yield();
    held.lock();
    return false;
  }
  if (mine.bed == nullptr) mine.bed = &beds_.take();
  mine.bed->prepare();
  mine.asleep = true;
  held.unlock();
  mine.bed->sleep(deadline);
  const bool expired = deadline != forever && !mine.settled() && net::clock::now() >= deadline;
  held.lock();
  mine.asleep = false;
  return expired;
}

/// Wakes a thread for a role that is needed and free: one that waits for its turn, or who waits on the socket in the
/// other role and may be the only one left.
void blocking_driver::hand_on() {
  const bool writer_needed = link_.online() && writer_ == nullptr && lane_.has_output();
  const bool reader_needed = link_.online() && reader_ == nullptr && lane_.expects_replies();
  const bool connector_needed = link_.now() == phase::offline;
  if (!writer_needed && !reader_needed && !connector_needed) return;
  if (exchange* next = lane_.somebody(writer_, reader_); next != nullptr) {
    auto& call = *static_cast<blocking_call*>(next);
    if (call.asleep) finished_.push_back(call.bed);  // any other is about to look by itself
    return;
  }
  if (writer_needed && reader_ != nullptr) wake_reader_.set();
  if (reader_needed && writer_waits_) wake_writer_.set();
}

/// The calls of `complete_` belong to their threads again; these are woken by `wake_finished`.
void blocking_driver::finish_complete(const blocking_call* mine) {
  for (exchange* each : complete_) {
    auto& call = *static_cast<blocking_call*>(each);
    if (&call != mine) {
      if (call.asleep) finished_.push_back(call.bed);
      call.returning = true;
      ++returning_;
    }
    if (&call == writer_ && writer_waits_) wake_writer_.set();
    call.finish();
  }
  complete_.clear();
}

/// Wakes without the mutex, which those who wake up are going to take.
void blocking_driver::wake_finished(lock& held) {
  news_.tell(held);
  if (finished_.empty()) return;
  thread_local std::vector<parker*> now;
  now.clear();
  now.swap(finished_);
  held.unlock();
  for (parker* each : now) each->wake();
  held.lock();
}

bool blocking_driver::pause(net::clock::time_point until, const call_terms& terms) {
  blocking_call mine;
  mine.deadline = std::min(until, terms.deadline);
  const own_interrupt interrupt{terms.stop.stop_possible()};
  mine.interrupt = interrupt.get();
  const std::stop_callback on_stop{terms.stop, [this, &mine] { stop(mine); }};
  lock held{mutex_};
  if (closed_) return false;
  ++callers_;
  pausing_.push_back(&mine);
  while (!mine.stopped && !ended_ && net::clock::now() < mine.deadline) wait_for_turn(mine, held, mine.deadline);
  std::erase(pausing_, &mine);
  const bool came = !mine.stopped && !ended_ && net::clock::now() >= until;
  leave(mine);
  return came;
}

/// The last that a call does.
void blocking_driver::leave(const blocking_call& mine) {
  if (mine.bed != nullptr) beds_.give_back(*mine.bed);
  if (mine.returning) --returning_;
  if (--callers_ == 0 && closed_) no_callers_.notify_all();
}

void blocking_driver::stop(blocking_call& call) {
  const lock held{mutex_};
  call.stopped = true;
  call.interrupt->set();
  if (call.bed != nullptr) call.bed->wake();
}

bool blocking_driver::alive() const {
  const lock held{mutex_};
  return !used_ || (link_.online() && !socket_.has_news());
}

lane_metrics blocking_driver::metrics() const {
  const lock held{mutex_};
  return lane_.metrics(name_);
}

void blocking_driver::begin_close(net::clock::time_point deadline) {
  const lock held{mutex_};
  closed_ = true;
  close_at_ = std::min(close_at_, deadline);
}

void blocking_driver::end_calls() {
  lock held{mutex_};
  end_calls(held);
}

void blocking_driver::end_calls(lock& held) {
  if (callers_ == 0 || ended_) return;
  ended_ = true;
  closing_.set();
  const failure why = closed_under_way();
  if (link_.online()) {
    broken_.reset();
    break_connection(why);
    leave_broken_connection();
  }
  lane_.refuse(why, complete_, [](const exchange&) { return true; });
  finish_complete(nullptr);
  for (const blocking_call* each : pausing_) {
    if (each->bed != nullptr) finished_.push_back(each->bed);
  }
  wake_finished(held);
}

void blocking_driver::wait_closed() {
  lock held{mutex_};
  const auto none = [this] { return callers_ == 0; };
  if (close_at_ == forever) {
    no_callers_.wait(held, none);
  } else {
    no_callers_.wait_until(held, close_at_, none);
  }
  end_calls(held);
  no_callers_.wait(held, none);
  ended_ = true;
  if (link_.online()) {
    if (!hung_up_) count_loss();
    socket_ = {};
    link_.lost(closed_under_way(), net::clock::now(), random_fraction());
  }
}

}  // namespace tenantry::detail
