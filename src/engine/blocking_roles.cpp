// The three roles of a blocking driver: connector, writer and reader.

#include "engine/blocking_driver.hpp"
#include "engine/failures.hpp"
#include "engine/hang_up_watch.hpp"
#include "engine/random_fraction.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <poll.h>
#include <thread>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

/// A connection idle for longer may have been closed by the server, so it is looked at before it is used.
constexpr auto idle_check = 100ms;

/// A writer yields so often to threads that are about to join it, unless so many commands wait already: the server has
/// work meanwhile, where a larger write would let it wait for all of them.
constexpr int yields_before_write = 3;
constexpr std::size_t enough_to_write = 16;

}  // namespace

bool blocking_driver::connect(blocking_call& mine, lock& held) {
  link_.attempt();
  wake_finished(held);
  while (net::clock::now() < link_.next_attempt() && !mine.settled() && !mine.stopped && !ended_) {
    const auto until = std::min(mine.deadline, link_.next_attempt());
    if (wait_for_turn(mine, held, until) && net::clock::now() >= mine.deadline) {
      link_.given_up();
      return true;
    }
  }
  if (mine.settled() || mine.stopped || ended_) {
    link_.given_up();
    return false;
  }
  held.unlock();
  const auto begin = net::clock::now();
  const auto attempt_ends = after(begin, options_.connect_timeout);
  const bool own_deadline = mine.deadline <= attempt_ends;
  const std::array wakeups{closing_.fd(), mine.interrupt != nullptr ? mine.interrupt->fd() : -1};
  connect_result result;
  try {
    result = detail::connect(options_, names_, own_deadline ? mine.deadline : attempt_ends, wakeups);
  } catch (const std::exception& fault) {  // out of descriptors, threads or memory
    result.failed = failure{.code = errc::unreachable, .what = execution::not_sent, .detail = fault.what()};
  }
  const auto now = net::clock::now();
  held.lock();

  const bool expired = result.how == net::ready::deadline && own_deadline;
  tried_for_ = expired ? tried_for_ + (now - begin) : net::clock::duration::zero();
  if (result.how == net::ready::deadline && (!own_deadline || tried_for_ >= options_.connect_timeout)) {
    tried_for_ = {};
    result.how = net::ready::io;
    result.failed = not_connected_within(options_.connect_timeout, result.waited_for);
  }
  if (result.how == net::ready::io && !result.failed && !ended_) {
    socket_ = std::move(result.socket);
    used_ = true;
    lane_.connected(now);
    link_.connected(now);
    last_use_ = now;
    hung_up_ = false;
    tell_watch();
    news_.add(events::connected);
    return false;
  }
  if (result.failed) {
    link_.failed(*result.failed, now, random_fraction());
    ++lane_.counters().connect_failures;
    news_.add(events::connect_failed, "retry_ms", milliseconds(link_.next_attempt() - now), &*result.failed);
    lane_.refuse(*result.failed, complete_, [this](const exchange& call) {
      return link_.refused() || static_cast<const blocking_call&>(call).fail_fast;
    });
    finish_complete(&mine);
  } else {
    link_.given_up();
  }
  return expired;
}

/// Threads whose replies have come are about to run, and usually have another command: it goes into the same write.
void blocking_driver::let_others_join(lock& held) {
  const auto waits_for_more = [this] { return returning_ > 0 && lane_.queued() < enough_to_write; };
  for (int patience = yields_before_write; patience > 0 && waits_for_more(); --patience) {
    held.unlock();
    std::this_thread::yield();
    held.lock();
  }
}

bool blocking_driver::write(blocking_call& mine, lock& held) {
  bool expired = false;
  writer_ = &mine;
  let_others_join(held);
  while (!broken_ && lane_.has_output() && !mine.stopped && !expired) {
    std::string_view bytes;
    try {
      bytes = lane_.output();
    } catch (const std::bad_alloc&) {
      break_connection(lost_because("out of memory"));
      break;
    }
    held.unlock();
    const net::transfer sent = socket_.send(bytes);
    const auto now = net::clock::now();
    held.lock();
    if (sent.how == net::transfer::status::done) lane_.wrote(sent.size, now);
    if (sent.how == net::transfer::status::failed) break_connection(lost_in(socket_, sent));
    if (mine.settled()) break;  // those who still wait go on with it
    if (sent.how != net::transfer::status::would_block) {
      expired = lane_.has_output() && now >= mine.deadline;
      continue;
    }
    if (reader_ == nullptr) {
      expired = read_once(mine, held, POLLIN | POLLOUT);  // the server may be waiting for its replies to be read
    } else {
      writer_waits_ = true;
      held.unlock();
      const net::ready how = wait_on_socket(mine, POLLOUT, mine.deadline, wake_writer_);
      held.lock();
      writer_waits_ = false;
      if (how == net::ready::woken) wake_writer_.clear();
      expired = how == net::ready::deadline;
    }
  }
  writer_ = nullptr;
  leave_broken_connection();
  return expired;
}

bool blocking_driver::read(blocking_call& mine, lock& held) {
  bool expired = false;
  while (link_.online() && !broken_ && reader_ == nullptr && !mine.settled() && !mine.stopped && !expired) {
    expired = read_once(mine, held, POLLIN);
    if (writer_ == nullptr && lane_.has_output()) break;  // left by a writer that did not wait for the socket
  }
  leave_broken_connection();
  return expired;
}

/// True when the deadline has passed, also while others' replies stream in.
bool blocking_driver::read_once(blocking_call& mine, lock& held, short events) {
  if (!finished_.empty() || !news_.empty()) {
    wake_finished(held);
    return false;  // everything may have changed meanwhile
  }
  reader_ = &mine;
  auto look_again = lane_.stalled_at(stall_limit_);
  if (look_again == forever) look_again = after(net::clock::now(), stall_limit_);  // a writer is at it
  const auto until = std::min(mine.deadline, look_again);
  const bool in_one_call = !lane_.has_output() && may_wait_in_receive(mine, events, until);
  held.unlock();
  const net::ready how = in_one_call ? net::ready::io : wait_on_socket(mine, events, until, wake_reader_);
  net::transfer got{.how = net::transfer::status::would_block};
  bool keeps_role = true;
  if (how == net::ready::io) {
    try {
      got = in_one_call ? socket_.wait_and_receive(lane_.room()) : socket_.receive(lane_.room());
      if (got.how == net::transfer::status::done) lane_.parse(got.size);
    } catch (const std::bad_alloc&) {
      got = {.how = net::transfer::status::failed, .fault = ENOMEM};
    }
  }
  const auto now = net::clock::now();
  held.lock();
  if (how == net::ready::woken) wake_reader_.clear();
  switch (got.how) {
    case net::transfer::status::would_block:
      mine.patient = false;
      if (how == net::ready::deadline && now >= lane_.stalled_at(stall_limit_)) {
        news_.add(events::lane_stalled, "milliseconds", stall_limit_.count());
        break_connection(stalled(stall_limit_));
      }
      break;
    case net::transfer::status::failed:
    case net::transfer::status::ended:
      break_connection(lost_in(socket_, got));
      break;
    case net::transfer::status::done:
      last_use_ = now;
      link_.served();
      if (const auto defect = lane_.match(now, complete_)) break_connection(*defect);
      if (lane_.drained()) break_connection(lost_because("the connection was retired"));
      finish_complete(&mine);
      keeps_role = !mine.settled();  // who goes on reading keeps it meanwhile
      if (!keeps_role) reader_ = nullptr;
      wake_finished(held);
      break;
  }
  if (keeps_role) reader_ = nullptr;
  return !mine.settled() && now >= mine.deadline;
}

/// A reader waits in `recv` itself, which saves a system call, while nothing is to be written that it might have to
/// write itself: only polling notices a role that others leave meanwhile. Once in a call; then it polls.
bool blocking_driver::may_wait_in_receive(const blocking_call& mine, short events,
                                          net::clock::time_point until) const noexcept {
  return mine.patient && mine.interrupt == nullptr && events == POLLIN && socket_.can_wait() &&
         until - net::clock::now() >= net::socket::patience;
}

net::ready blocking_driver::wait_on_socket(const blocking_call& mine, short events, net::clock::time_point deadline,
                                           const net::wakeup& turn) const noexcept {
  if ((events & POLLIN) != 0 && socket_.buffered()) return net::ready::io;
  const std::array wakeups{turn.fd(), mine.interrupt != nullptr ? mine.interrupt->fd() : -1};
  return net::wait(socket_.fd(), events, deadline, wakeups);
}

void blocking_driver::check_idle_connection(net::clock::time_point now) {
  if (broken_ || writer_ != nullptr || reader_ != nullptr) return;
  if (lane_.idle()) {
    if (now - last_use_ < idle_check || !socket_.has_news()) return;
    break_connection(lost_because("the server closed the idle connection"));
  } else {
    // Everybody who waited has gone. The command of this call must not follow theirs to a server that is stuck.
    if (now < lane_.stalled_at(stall_limit_)) return;
    if (net::wait(socket_.fd(), POLLIN, now, {}) == net::ready::io) return;
    break_connection(stalled(stall_limit_));
  }
  leave_broken_connection();
}

void blocking_driver::break_connection(failure why) {
  if (broken_) return;
  broken_ = std::move(why);
  if (!hung_up_) count_loss();
  socket_.shut_down();  // wakes the thread that waits in the other role
}

void blocking_driver::count_loss() noexcept {
  if (losses_ != nullptr) losses_->fetch_add(1, std::memory_order_acq_rel);
}

void blocking_driver::tell_watch() const noexcept {
  if (watch_ != nullptr) watch_->look_again();
}

void blocking_driver::watched_by(hang_up_watch* watch) noexcept {
  const lock held{mutex_};
  watch_ = watch;
}

int blocking_driver::watched_descriptor() const noexcept {
  const lock held{mutex_};
  return link_.online() && !broken_ && !hung_up_ ? socket_.fd() : -1;
}

/// Whoever is reading, or about to, still gets the replies that came before the end.
void blocking_driver::look_for_hang_up(short hang_up) noexcept {
  lock held{mutex_};
  if (!link_.online() || broken_ || hung_up_) return;
  if (net::wait(socket_.fd(), hang_up, net::clock::now(), {}) != net::ready::io) return;
  hung_up_ = true;
  count_loss();
  if (!lane_.idle()) return;
  break_connection(lost_because("the server closed the idle connection"));
  leave_broken_connection();
  wake_finished(held);
}

void blocking_driver::leave_broken_connection() noexcept {
  if (!broken_ || writer_ != nullptr || reader_ != nullptr) return;
  lane_.ended(*broken_, complete_);
  news_.add(events::connection_lost, "unanswered", static_cast<std::int64_t>(complete_.size()), &*broken_);
  if (ended_ || whose_ == ownership::exclusive) {
    lane_.refuse(*broken_, complete_, [](const exchange&) { return true; });
  }
  link_.lost(*broken_, net::clock::now(), random_fraction());
  broken_.reset();
  socket_.abort();  // what the kernel still holds must not reach the server after commands of the next connection
  socket_ = {};
  tell_watch();
  finish_complete(nullptr);
}

}  // namespace tenantry::detail
