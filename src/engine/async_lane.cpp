#include "engine/async_lane.hpp"

#include "engine/failures.hpp"
#include "engine/options.hpp"
#include "engine/random_fraction.hpp"

#include <algorithm>
#include <poll.h>
#include <utility>

namespace tenantry::detail {

async_call::async_call(async_lane& through, std::span<const command> sent, std::span<reply> answers,
                       const call_terms& terms)
    : lane_{through}, stop_{terms.stop}, fail_fast_{terms.fail_fast}, repeated_{terms.repeated}, where_{terms.where} {
  commands = sent;
  replies = answers;
  tenant = terms.tenant;
  deadline = terms.deadline;
}

bool async_call::await_suspend(std::coroutine_handle<> self) {
  waiter_ = self;
  if (stop_.stop_possible()) stop_callback_.emplace(stop_, on_stop{this});
  return lane_.submit(*this);
}

std::optional<failure> async_call::await_resume() {
  stop_callback_.reset();
  if (is(state::failed)) return std::move(why);
  return std::nullopt;
}

void async_call::on_stop::operator()() const noexcept { call->lane_.stop(*call); }

async_lane::async_lane(const client_options& options, io_loop& loop, const resume_all& resume, ownership whose,
                       std::string_view name, std::atomic<std::uint64_t>* losses)
    : loop_{loop},
      resume_{resume},
      whose_{whose},
      name_{name},
      stall_limit_{stall_limit(options)},
      losses_{losses},
      lane_{options.limits, options.bounds},
      timers_{net::clock::now()},
      news_{options.observer, endpoint(options), name},
      connector_{options} {
  loop_.add(*this);
}

bool async_lane::submit(async_call& call) {
  const lock held{mutex_};
  if (auto refused = admit(call)) {
    call.why = *std::move(refused);
    call.failed = true;
    call.finish();
    return false;
  }
  if (call.deadline != forever) timers_.insert(call, call.deadline);
  changed_ = true;
  loop_.wake();  // with the mutex: without it the client may be gone, as the call may have ended
  return true;
}

std::optional<failure> async_lane::admit(async_call& call) {
  if (call.stopped_) return cancelled(execution::not_sent);
  if (closed_) return closed_before();
  if (call.commands.empty()) {
    pauses_.push_back(&call);
    return std::nullopt;
  }
  if (whose_ == ownership::exclusive && used_ && (!link_.online() || to_leave_)) return exclusive_lost();
  if (!link_.online() && link_.last_failure()) {
    if (const failure* known = link_.refusal(call.fail_fast_, net::clock::now())) return *known;
  }
  if (!lane_.enqueue(call)) return overloaded(call.tenant);
  if (call.repeated_) lane_.counters().retries += call.commands.size();
  return std::nullopt;
}

void async_lane::stop(async_call& call) noexcept {
  const lock held{mutex_};
  call.stopped_ = true;
  if (call.is(exchange::state::queued) || call.is(exchange::state::staged)) {
    ++lane_.counters().cancelled;
    const bool staged = call.is(exchange::state::staged);
    fail(call, cancelled(lane_.abandon(call)));
    note_unawaited(staged);
  } else if (std::erase(pauses_, &call) > 0) {
    fail(call, cancelled(execution::not_sent));
  } else {
    return;  // not begun, or ended already
  }
  changed_ = true;
  loop_.wake();
}

void async_lane::fail(async_call& call, failure why) {
  call.why = std::move(why);
  call.failed = true;
  complete_.push_back(&call);
  finish_complete();
}

/// From here on the calls belong to their coroutines, which `deliver` resumes.
void async_lane::finish_complete() {
  for (exchange* each : complete_) {
    auto& call = *static_cast<async_call*>(each);
    timers_.remove(call);
    (call.where_ == resumed::by_io_thread ? ready_here_ : ready_).push_back(call.waiter_);
    call.finish();
  }
  complete_.clear();
}

void async_lane::expire(async_call& call) {
  if (call.commands.empty()) {
    std::erase(pauses_, &call);
    complete_.push_back(&call);
    finish_complete();
    return;
  }
  const bool staged = call.is(exchange::state::staged);
  const execution what = lane_.abandon(call);
  lane_.count_timeout(staged);
  fail(call, expired(link_, staged, what));
  note_unawaited(staged);
}

/// An exclusive connection is not used again after an answer that nobody waited for.
void async_lane::note_unawaited(bool staged) {
  if (staged && whose_ == ownership::exclusive && !to_leave_) to_leave_ = answer_not_awaited();
}

void async_lane::leave_if_needed() {
  if (link_.online() && to_leave_) break_connection(*std::exchange(to_leave_, std::nullopt));
}

bool async_lane::has_work() noexcept {
  const lock held{mutex_};
  return changed_;
}

io_task::interest async_lane::run(short events) noexcept {
  lock held{mutex_};
  changed_ = false;
  if (link_.now() == phase::connecting) take_connection();
  leave_if_needed();
  if (link_.online() && ((events & ~POLLOUT) != 0 || socket_.buffered())) read(held);
  if ((events & POLLOUT) != 0) write_blocked_ = false;
  deliver(held);
  write(held);

  const auto now = net::clock::now();
  timers_.advance(now, [this](timer_node& node) { expire(static_cast<async_call&>(node)); });
  leave_if_needed();
  if (link_.online() && now >= lane_.stalled_at(stall_limit_) &&
      net::wait(socket_.fd(), POLLIN, now, {}) != net::ready::io) {
    news_.add(events::lane_stalled, "milliseconds", stall_limit_.count());
    break_connection(stalled(stall_limit_));
  }
  if (link_.now() == phase::offline && !lane_.idle() && now >= link_.next_attempt() && !ended_) {
    start_connecting(now, held);
  }
  check_close(now);
  deliver(held);

  interest wanted;
  wanted.wake_at = std::min(timers_.next_expiry(now).value_or(forever), closed_ && !ended_ ? close_at_ : forever);
  if (link_.online()) {
    wanted.fd = socket_.fd();
    wanted.events = write_blocked_ ? POLLIN | POLLOUT : POLLIN;
    wanted.wake_at = std::min(wanted.wake_at, lane_.stalled_at(stall_limit_));
    if (socket_.buffered() || (!write_blocked_ && lane_.has_output())) changed_ = true;
  } else if (link_.now() == phase::offline && !lane_.idle()) {
    wanted.wake_at = std::min(wanted.wake_at, link_.next_attempt());
  }
  return wanted;
}

void async_lane::read(lock& held) {
  held.unlock();
  const net::transfer got = socket_.receive(lane_.room());
  if (got.how == net::transfer::status::done) lane_.parse(got.size);
  const auto now = net::clock::now();
  held.lock();
  switch (got.how) {
    case net::transfer::status::would_block:
      break;
    case net::transfer::status::failed:
    case net::transfer::status::ended:
      break_connection(lost_in(socket_, got));
      break;
    case net::transfer::status::done: {
      link_.served();
      const auto defect = lane_.match(now, complete_);
      finish_complete();
      if (defect) {
        break_connection(*defect);
      } else if (lane_.drained()) {
        break_connection(lost_because("the connection was retired"));
      }
      break;
    }
  }
}

void async_lane::write(lock& held) {
  while (link_.online() && !write_blocked_ && lane_.has_output()) {
    const std::string_view bytes = lane_.output();
    held.unlock();
    const net::transfer sent = socket_.send(bytes);
    const auto now = net::clock::now();
    held.lock();
    if (sent.how == net::transfer::status::done) lane_.wrote(sent.size, now);
    if (sent.how == net::transfer::status::failed) break_connection(lost_in(socket_, sent));
    write_blocked_ = sent.how == net::transfer::status::would_block;
  }
}

void async_lane::start_connecting(net::clock::time_point now, lock& held) {
  link_.attempt();
  held.unlock();  // which `done` takes
  connector_.start(now, [this] {
    const lock done{mutex_};
    changed_ = true;
    loop_.wake();
  });
  held.lock();
}

void async_lane::take_connection() {
  auto result = connector_.take();
  if (!result) return;
  const auto now = net::clock::now();
  if (result->failed) {
    link_.failed(*result->failed, now, random_fraction());
    ++lane_.counters().connect_failures;
    news_.add(events::connect_failed, "retry_ms", milliseconds(link_.next_attempt() - now), &*result->failed);
    lane_.refuse(*result->failed, complete_, [this](const exchange& call) {
      return link_.refused() || static_cast<const async_call&>(call).fail_fast_;
    });
    finish_complete();
  } else if (result->how == net::ready::io && !ended_) {
    socket_ = std::move(result->socket);
    write_blocked_ = false;
    used_ = true;
    lane_.connected(now);
    link_.connected(now);
    news_.add(events::connected);
  } else {
    link_.given_up();
  }
}

void async_lane::break_connection(const failure& why) {
  if (losses_ != nullptr) losses_->fetch_add(1, std::memory_order_acq_rel);
  lane_.ended(why, complete_);
  news_.add(events::connection_lost, "unanswered", static_cast<std::int64_t>(complete_.size()), &why);
  socket_.abort();  // what the kernel still holds must not reach the server after commands of the next connection
  socket_ = {};
  write_blocked_ = false;
  to_leave_.reset();
  link_.lost(why, net::clock::now(), random_fraction());
  if (whose_ == ownership::exclusive) lane_.refuse(why, complete_, [](const exchange&) { return true; });
  finish_complete();
}

void async_lane::deliver(lock& held) {
  news_.tell(held);
  if (ready_.empty() && ready_here_.empty()) return;
  resuming_.clear();
  resuming_.swap(ready_);
  resuming_here_.clear();
  resuming_here_.swap(ready_here_);
  held.unlock();
  if (!resuming_.empty()) resume_(resuming_);
  for (const std::coroutine_handle<> each : resuming_here_) each.resume();
  held.lock();
}

void async_lane::begin_close(net::clock::time_point deadline) {
  const lock held{mutex_};
  closed_ = true;
  close_at_ = std::min(close_at_, deadline);
  changed_ = true;
  loop_.wake();
}

/// Not where all that is left is a pause that no caller waits for: nothing can be sent after it.
bool async_lane::is_awaited() const {
  return lane_.somebody() != nullptr ||
         std::ranges::any_of(pauses_, [](const async_call* each) { return each->where_ == resumed::by_executor; });
}

void async_lane::check_close(net::clock::time_point now) {
  if (!closed_ || ended_ || (now < close_at_ && is_awaited())) return;
  const failure why = closed_under_way();
  if (link_.online()) break_connection(why);
  lane_.refuse(why, complete_, [](const exchange&) { return true; });
  for (async_call* each : std::exchange(pauses_, {})) fail(*each, why);
  finish_complete();
  connector_.give_up();
  ended_ = true;
  all_ended_.notify_all();
}

bool async_lane::alive() const {
  const lock held{mutex_};
  return !used_ || (link_.online() && !to_leave_);
}

lane_metrics async_lane::metrics() const {
  const lock held{mutex_};
  return lane_.metrics(name_);
}

void async_lane::wait_closed() {
  lock held{mutex_};
  all_ended_.wait(held, [this] { return ended_; });
}

}  // namespace tenantry::detail
