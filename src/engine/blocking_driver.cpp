#include "engine/blocking_driver.hpp"

#include "engine/failures.hpp"
#include "engine/options.hpp"
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

// Threads that meet are run in turn by the kernel rather than put to sleep and woken one by one, which costs several
// times as much: they yield a few times before they sleep, and a writer yields to those who are about to join it.
// docs/performance.md has the figures.
constexpr std::size_t crowd = 3;  // callers from which on it is worth it
constexpr int yields_before_sleep = 6;
constexpr int yields_before_write = 3;

constexpr auto forever = net::clock::time_point::max();

/// The interrupt of this thread's calls that have a stop_token. A thread makes one call at a time.
const net::wakeup& thread_interrupt() {
  thread_local const net::wakeup own;
  own.clear();
  return own;
}

}  // namespace

blocking_driver::blocking_driver(const client_options& options, ownership whose, std::string_view name)
    : options_{options},
      whose_{whose},
      name_{name},
      stall_limit_{stall_limit(options)},
      lane_{options.limits, options.bounds},
      news_{options.observer, endpoint(options), name} {}

blocking_driver::~blocking_driver() { close(net::clock::now()); }

std::optional<failure> blocking_driver::run(std::span<const command> commands, std::span<reply> replies,
                                            const call_terms& terms) {
  blocking_call mine;
  mine.commands = commands;
  mine.replies = replies;
  mine.tenant = terms.tenant;
  mine.deadline = terms.deadline;
  mine.fail_fast = terms.fail_fast;
  const bool stoppable = terms.stop.stop_possible();
  if (stoppable) mine.interrupt = &thread_interrupt();
  {
    lock held{mutex_};
    if (auto refused = admit(mine)) return refused;
    if (terms.repeated) lane_.counters().retries += commands.size();
    ++callers_;
    if (!stoppable) work(mine, held);
  }
  if (stoppable) {
    // Registered and removed without the mutex, because the callback takes it.
    const std::stop_callback on_stop{terms.stop, [this, &mine] { stop(mine); }};
    lock held{mutex_};
    work(mine, held);
  }
  lock held{mutex_};
  wake_finished(held);
  if (mine.bed != nullptr) beds_.give_back(*mine.bed);
  if (mine.returning) --returning_;
  if (--callers_ == 0 && closed_) no_callers_.notify_all();
  held.unlock();
  // The client may be gone from here on.
  if (mine.is(exchange::state::failed)) return std::move(mine.why);
  return std::nullopt;
}

std::optional<failure> blocking_driver::admit(blocking_call& mine) {
  if (closed_) return closed_before();
  if (link_.online()) check_idle_connection(net::clock::now());
  if (!link_.online()) {
    if (whose_ == ownership::exclusive && used_) {
      return failure{.code = errc::connection_lost,
                     .what = execution::not_sent,
                     .detail = "the exclusive connection was lost, with all state it had"};
    }
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
    break_connection(lost_because("a command's answer was not waited for"));
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
  const auto attempt_ends = after(net::clock::now(), options_.connect_timeout);
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

  if (result.how == net::ready::deadline && !own_deadline) {
    result.how = net::ready::io;
    result.failed = not_connected_within(options_.connect_timeout, result.waited_for);
  }
  if (result.how == net::ready::io && !result.failed && !ended_) {
    socket_ = std::move(result.socket);
    used_ = true;
    lane_.connected(now);
    link_.connected(now);
    last_use_ = now;
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
  return result.how == net::ready::deadline;
}

/// Threads whose replies have come are about to run, and usually have another command: it goes into the same write.
void blocking_driver::let_others_join(lock& held) {
  for (int patience = yields_before_write; patience > 0 && returning_ > 0; --patience) {
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
  held.unlock();
  const auto until = std::min(mine.deadline, look_again);
  const bool in_one_call = may_wait_in_receive(mine, events, until);
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

/// A reader waits in `recv` itself, which saves a system call, where nothing can be missed that way: once in a call, as
/// only polling notices a role that others leave meanwhile.
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
  socket_.shut_down();  // wakes the thread that waits in the other role
}

void blocking_driver::leave_broken_connection() noexcept {
  if (!broken_ || writer_ != nullptr || reader_ != nullptr) return;
  lane_.ended(*broken_, complete_);
  news_.add(events::connection_lost, "unanswered", static_cast<std::int64_t>(complete_.size()), &*broken_);
  if (ended_ || whose_ == ownership::exclusive) {
    lane_.refuse(*broken_, complete_, [](const exchange&) { return true; });
  }
  broken_.reset();
  socket_.abort();  // what the kernel still holds must not reach the server after commands of the next connection
  socket_ = {};
  link_.lost(net::clock::now(), random_fraction());
  finish_complete(nullptr);
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
  const bool stoppable = terms.stop.stop_possible();
  if (stoppable) mine.interrupt = &thread_interrupt();
  const std::stop_callback on_stop{terms.stop, [this, &mine] { stop(mine); }};
  lock held{mutex_};
  if (closed_) return false;
  ++callers_;
  pausing_.push_back(&mine);
  while (!mine.stopped && !ended_ && net::clock::now() < mine.deadline) wait_for_turn(mine, held, mine.deadline);
  std::erase(pausing_, &mine);
  const bool came = !mine.stopped && !ended_ && net::clock::now() >= until;
  if (mine.bed != nullptr) beds_.give_back(*mine.bed);
  if (--callers_ == 0 && closed_) no_callers_.notify_all();
  held.unlock();
  return came;
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

void blocking_driver::begin_close() {
  const lock held{mutex_};
  closed_ = true;
}

void blocking_driver::close(net::clock::time_point deadline) {
  lock held{mutex_};
  closed_ = true;
  const auto none = [this] { return callers_ == 0; };
  if (deadline == forever) {
    no_callers_.wait(held, none);
  } else {
    no_callers_.wait_until(held, deadline, none);
  }
  if (callers_ > 0 && !ended_) {
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
  no_callers_.wait(held, none);
  ended_ = true;
  if (link_.online()) {
    socket_ = {};
    link_.lost(net::clock::now(), random_fraction());
  }
}

}  // namespace tenantry::detail
