#include "engine/blocking_driver.hpp"

#include "engine/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <new>
#include <poll.h>
#include <system_error>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

/// A connection idle for longer may have been closed by the server, so it is looked at before it is used.
constexpr auto idle_check = 100ms;

net::clock::time_point after(net::clock::time_point now, std::chrono::milliseconds span) {
  // Compared in the coarser unit: no_timeout has no representation in the clock's.
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(net::clock::time_point::max() - now);
  return span >= left ? net::clock::time_point::max() : now + span;
}

std::string words(int fault) { return std::generic_category().message(fault); }

/// The interrupt of this thread's calls that have a stop_token. A thread makes one call at a time.
const net::wakeup& thread_interrupt() {
  thread_local const net::wakeup own;
  own.clear();
  return own;
}

}  // namespace

blocking_driver::blocking_driver(client_options options)
    : options_{std::move(options)}, endpoint_{endpoint(options_)}, lane_{options_.limits} {}

blocking_driver::~blocking_driver() { close(0ms); }

net::clock::time_point blocking_driver::deadline_of(const call_options& how) const noexcept {
  return after(net::clock::now(), how.timeout.value_or(options_.timeout));
}

void blocking_driver::run(std::span<const command> commands, std::span<reply> replies, net::clock::time_point deadline,
                          const std::stop_token& stop_with) {
  pending mine;
  mine.commands = commands;
  mine.replies = replies;
  mine.deadline = deadline;
  const bool stoppable = stop_with.stop_possible();
  if (stoppable) mine.interrupt = &thread_interrupt();
  {
    lock held{mutex_};
    if (closed_) {
      mine.why = {.code = errc::closed, .what = execution::not_sent, .detail = "the client is closed"};
      raise(mine.why, describe(mine));
    }
    check_idle_connection();
    lane_.enqueue(mine);
    ++callers_;
    if (!stoppable) work(mine, held);
  }
  if (stoppable) {
    // Registered and removed without the mutex, because the callback takes it.
    const std::stop_callback on_stop{stop_with, [this, &mine] { stop(mine); }};
    lock held{mutex_};
    work(mine, held);
  }
  const bool failed = mine.now != exchange::state::done;
  std::string text;
  try {
    if (failed) text = describe(mine);
  } catch (const std::bad_alloc&) {  // NOLINT(bugprone-empty-catch): the error says less then
  }
  {
    const lock held{mutex_};
    if (--callers_ == 0) no_callers_.notify_all();
  }
  // The client may be gone from here on.
  if (failed) raise(mine.why, text);
}

void blocking_driver::work(pending& mine, lock& held) noexcept {
  bool expired = false;
  while (!mine.settled() && !mine.stopped && !expired) {
    if (phase_ == phase::offline) {
      expired = connect(mine, held);
    } else if (phase_ == phase::online && !broken_ && writer_ == nullptr && lane_.has_output()) {
      expired = write(mine, held);
    } else if (phase_ == phase::online && !broken_ && !reading_) {
      expired = read(mine, held);
    } else {
      expired = wait_for_turn(mine, held);
    }
  }
  if (!mine.settled()) {
    const bool cancelled = mine.stopped;
    const bool staged = mine.now == exchange::state::staged;
    mine.why = {.code = cancelled ? errc::cancelled : errc::timeout,
                .what = lane_.abandon(mine),
                .detail = cancelled ? "cancelled"
                                    : fmt::format("the deadline passed while {}",
                                                  staged ? "waiting for the reply" : "waiting for the connection")};
    mine.now = exchange::state::failed;
  }
  hand_on();
}

bool blocking_driver::wait_for_turn(pending& mine, lock& held) {
  if (mine.deadline == net::clock::time_point::max()) {
    mine.wake.wait(held);
    return false;
  }
  return mine.wake.wait_until(held, mine.deadline) == std::cv_status::timeout;
}

bool blocking_driver::connect(pending& mine, lock& held) {
  phase_ = phase::connecting;
  held.unlock();
  const auto now = net::clock::now();
  const auto attempt_ends = after(now, options_.connect_timeout);
  const bool own_deadline = mine.deadline <= attempt_ends;
  const std::array wakeups{closing_.fd(), mine.interrupt != nullptr ? mine.interrupt->fd() : -1};
  connect_result result;
  try {
    result = detail::connect(options_, names_, own_deadline ? mine.deadline : attempt_ends, wakeups);
  } catch (const std::exception& fault) {  // out of descriptors, threads or memory
    result.failed = failure{.code = errc::unreachable, .what = execution::not_sent, .detail = fault.what()};
  }
  held.lock();

  phase_ = phase::offline;
  if (result.how == net::ready::deadline && !own_deadline) {
    result.how = net::ready::io;
    result.failed = failure{.code = errc::unreachable,
                            .what = execution::not_sent,
                            .detail = fmt::format("no connection within {} ms", options_.connect_timeout.count())};
  }
  if (result.how == net::ready::io && !result.failed && !ended_) {
    socket_ = std::move(result.socket);
    lane_.connected();
    phase_ = phase::online;
    last_use_ = net::clock::now();
    return false;
  }
  if (result.failed) {
    lane_.unreachable(*result.failed, settled_);
    notify_settled(&mine);
  }
  return result.how == net::ready::deadline;
}

bool blocking_driver::write(pending& mine, lock& held) {
  bool expired = false;
  writer_ = &mine;
  while (!broken_ && lane_.has_output() && !mine.stopped && !expired) {
    std::string_view bytes;
    try {
      bytes = lane_.output();
    } catch (const std::bad_alloc&) {
      break_connection(errc::connection_lost, "out of memory");
      break;
    }
    held.unlock();
    const net::transfer sent = socket_.send(bytes);
    held.lock();
    if (sent.how == net::transfer::status::done) lane_.wrote(sent.size);
    if (sent.how == net::transfer::status::failed) break_connection(errc::connection_lost, words(sent.fault));
    if (sent.how != net::transfer::status::would_block) {
      expired = lane_.has_output() && net::clock::now() >= mine.deadline;
      continue;
    }
    if (mine.settled()) break;  // those who still wait go on with it
    if (!reading_) {
      expired = read_once(mine, held, POLLIN | POLLOUT);  // the server may be waiting for its replies to be read
    } else {
      writer_waits_ = true;
      held.unlock();
      const net::ready how = wait_on_socket(mine, POLLOUT, wake_writer_);
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

bool blocking_driver::read(pending& mine, lock& held) {
  bool expired = false;
  while (!broken_ && !mine.settled() && !mine.stopped && !expired) {
    expired = read_once(mine, held, POLLIN);
    if (writer_ == nullptr && lane_.has_output()) break;  // left by a writer that did not wait for the socket
    if (!mine.settled() && net::clock::now() >= mine.deadline) expired = true;  // also while others' replies stream in
  }
  leave_broken_connection();
  return expired;
}

bool blocking_driver::read_once(const pending& mine, lock& held, short events) {
  reading_ = true;
  held.unlock();
  const net::ready how = wait_on_socket(mine, events, wake_reader_);
  net::transfer got{.how = net::transfer::status::would_block};
  bool out_of_memory = false;
  if (how == net::ready::io) {
    try {
      got = socket_.receive(lane_.room());
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
  }
  held.lock();
  reading_ = false;
  if (how == net::ready::woken) wake_reader_.clear();
  if (out_of_memory) break_connection(errc::connection_lost, "out of memory");
  switch (got.how) {
    case net::transfer::status::would_block:
      break;
    case net::transfer::status::failed:
      break_connection(errc::connection_lost, words(got.fault));
      break;
    case net::transfer::status::ended:
      break_connection(errc::connection_lost, "the server closed the connection");
      break;
    case net::transfer::status::done:
      try {
        lane_.received(got.size, settled_);
      } catch (const error& defect) {
        break_connection(defect.code(), defect.what());
      }
      notify_settled(&mine);
      last_use_ = net::clock::now();
      break;
  }
  return how == net::ready::deadline;
}

net::ready blocking_driver::wait_on_socket(const pending& mine, short events, const net::wakeup& turn) const noexcept {
  const std::array wakeups{turn.fd(), mine.interrupt != nullptr ? mine.interrupt->fd() : -1};
  return net::wait(socket_.fd(), events, mine.deadline, wakeups);
}

void blocking_driver::check_idle_connection() {
  if (phase_ != phase::online || broken_ || writer_ != nullptr || reading_ || !lane_.idle()) return;
  if (net::clock::now() - last_use_ < idle_check) return;
  if (socket_.has_news()) {
    break_connection(errc::connection_lost, "the server closed the idle connection");
    leave_broken_connection();
  }
}

void blocking_driver::break_connection(errc code, std::string why) {
  if (broken_) return;
  broken_ = failure{.code = code, .what = execution::unknown, .detail = std::move(why)};
  socket_.shut_down();  // wakes the thread that waits in the other role
}

void blocking_driver::leave_broken_connection() noexcept {
  if (!broken_ || writer_ != nullptr || reading_) return;
  lane_.ended(*broken_, settled_);
  if (ended_) lane_.unreachable(*broken_, settled_);
  broken_.reset();
  socket_.abort();  // what the kernel still holds must not reach the server after commands of the next connection
  socket_ = {};
  phase_ = phase::offline;
  notify_settled(nullptr);
}

/// Wakes a thread for a role that is needed and free: one that waits for its turn, or who waits on the socket in the
/// other role and may be the only one left.
void blocking_driver::hand_on() {
  const bool writer_needed = phase_ == phase::online && writer_ == nullptr && lane_.has_output();
  const bool reader_needed = phase_ == phase::online && !reading_ && lane_.expects_replies();
  const bool connector_needed = phase_ == phase::offline;
  if (!writer_needed && !reader_needed && !connector_needed) return;
  if (writer_needed && reading_) wake_reader_.set();
  if (reader_needed && writer_waits_) wake_writer_.set();
  if (exchange* next = lane_.somebody(writer_); next != nullptr) static_cast<pending*>(next)->wake.notify_one();
}

void blocking_driver::notify_settled(const pending* except) {
  for (exchange* each : settled_) {
    if (each == except) continue;
    static_cast<pending*>(each)->wake.notify_one();
    if (each == writer_ && writer_waits_) wake_writer_.set();
  }
  settled_.clear();
}

void blocking_driver::stop(pending& call) {
  const lock held{mutex_};
  call.stopped = true;
  call.interrupt->set();
  call.wake.notify_one();
}

std::string blocking_driver::describe(const pending& call) const {
  std::string name{call.commands.front().name()};
  if (call.commands.size() > 1) name += fmt::format(" and {} more", call.commands.size() - 1);
  return fmt::format("{} at {}: {}", name, endpoint_, call.why.detail);
}

void blocking_driver::raise(const failure& why, const std::string& text) {
  if (why.code == errc::timeout || why.code == errc::cancelled) throw timeout_error{why.code, why.what, text};
  throw connection_error{why.code, why.what, text};
}

void blocking_driver::close(std::chrono::milliseconds drain) {
  lock held{mutex_};
  closed_ = true;
  const auto none = [this] { return callers_ == 0; };
  const auto deadline = after(net::clock::now(), std::max(drain, 0ms));
  if (deadline == net::clock::time_point::max()) {
    no_callers_.wait(held, none);
  } else {
    no_callers_.wait_until(held, deadline, none);
  }
  if (callers_ > 0 && !ended_) {
    ended_ = true;
    closing_.set();
    const failure why{.code = errc::closed, .what = execution::not_sent, .detail = "the client was closed"};
    if (phase_ == phase::online) {
      broken_.reset();
      break_connection(errc::closed, why.detail);
      leave_broken_connection();
    }
    lane_.unreachable(why, settled_);
    notify_settled(nullptr);
  }
  no_callers_.wait(held, none);
  ended_ = true;
  if (phase_ == phase::online) {
    socket_ = {};
    phase_ = phase::offline;
  }
}

}  // namespace tenantry::detail
