#include "engine/push_connection.hpp"

#include "engine/failures.hpp"
#include "engine/options.hpp"
#include "engine/random_fraction.hpp"
#include "engine/terms.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <poll.h>
#include <utility>

namespace tenantry::detail {

push_connection::push_connection(const client_options& options, io_loop& loop, const push_options& how, listener told)
    : loop_{loop},
      told_{std::move(told)},
      machine_{how},
      news_{options.observer, endpoint(options), "push"},
      connector_{options} {
  loop_.add(*this);
}

push_connection::~push_connection() {
  connector_.give_up();
  if (!loop_.on_this_thread()) loop_.remove(*this);
  told_ = nullptr;  // what it holds knows of this connection
}

void push_connection::end(std::unique_ptr<push_connection> one) noexcept {
  if (!one->loop_.on_this_thread()) return one.reset();
  one->told_ = [](const push_event&) {};  // which runs on this thread only
  io_loop& loop = one->loop_;
  loop.retire(std::unique_ptr<io_task>{one.release()});
}

standing push_connection::want(push_kind kind, std::string_view name) {
  const lock held{mutex_};
  const standing now = machine_.want(kind, name);
  changed_ = true;
  loop_.wake();
  return now;
}

void push_connection::unwant(push_kind kind, std::string_view name) {
  const lock held{mutex_};
  machine_.unwant(kind, name);
  changed_ = true;
  loop_.wake();
}

void push_connection::set_heartbeat(const push_options& of) {
  const lock held{mutex_};
  machine_.set_heartbeat(of);
  changed_ = true;
  loop_.wake();
}

void push_connection::restart(std::uint64_t generation, std::string why) {
  const lock held{mutex_};
  if (!link_.online() || machine_.generation() != generation) return;
  restart_ = std::move(why);
  changed_ = true;
  loop_.wake();
}

std::optional<push_connection::identity> push_connection::connected_as() const {
  const lock held{mutex_};
  if (!machine_.client_id()) return std::nullopt;
  return identity{.generation = machine_.generation(), .client_id = *machine_.client_id()};
}

std::optional<failure> push_connection::last_failure() const {
  const lock held{mutex_};
  return link_.last_failure();
}

bool push_connection::has_work() noexcept {
  const lock held{mutex_};
  return changed_;
}

io_task::interest push_connection::run(short events) noexcept {
  lock held{mutex_};
  changed_ = false;
  if (link_.now() == phase::connecting) take_connection();
  if (link_.online() && ((events & ~POLLOUT) != 0 || socket_.buffered())) read(held);
  if ((events & POLLOUT) != 0) write_blocked_ = false;
  if (link_.online() && restart_) leave(lost_because(*restart_));

  const auto now = net::clock::now();
  if (link_.online()) {
    const std::size_t before = events_.size();
    machine_.tick(now, events_);
    for (std::size_t i = before; i < events_.size(); ++i) {
      if (const auto* dead = std::get_if<push::dead>(&events_[i])) {
        leave(lost_because(dead->cause));
        break;
      }
    }
  }
  deliver(held);
  write();
  // The end of the last one is told before.
  if (link_.now() == phase::offline && events_.empty() && now >= link_.next_attempt()) {
    link_.attempt();
    held.unlock();  // which `done` takes
    connector_.start(now, [this] {
      const lock done{mutex_};
      changed_ = true;
      loop_.wake();
    });
    held.lock();
  }

  interest wanted;
  if (link_.online()) {
    wanted.fd = socket_.fd();
    wanted.events = write_blocked_ ? POLLIN | POLLOUT : POLLIN;
    wanted.wake_at = machine_.next_wakeup().value_or(forever);
  } else if (link_.now() == phase::offline) {
    wanted.wake_at = link_.next_attempt();
  }
  if (!events_.empty() || socket_.buffered()) changed_ = true;
  return wanted;
}

void push_connection::take_connection() {
  auto result = connector_.take();
  if (!result) return;
  const auto now = net::clock::now();
  if (result->failed) {
    link_.failed(*result->failed, now, random_fraction());
    news_.add(events::connect_failed, "retry_ms", milliseconds(link_.next_attempt() - now), &*result->failed);
  } else if (result->how == net::ready::io) {
    socket_ = std::move(result->socket);
    write_blocked_ = false;
    link_.connected(now);
    machine_.connected(now, result->client_id);
    news_.add(events::push_connected);
  } else {
    link_.given_up();
  }
}

void push_connection::read(lock& held) {
  held.unlock();
  const net::transfer got = socket_.receive(machine_.room());
  held.lock();
  switch (got.how) {
    case net::transfer::status::would_block:
      break;
    case net::transfer::status::failed:
    case net::transfer::status::ended:
      leave(lost_in(socket_, got));
      break;
    case net::transfer::status::done:
      try {
        machine_.received(got.size, net::clock::now(), events_);
      } catch (const error& defect) {
        leave({.code = defect.code(), .what = execution::unknown, .detail = defect.what()});
      }
      break;
  }
}

void push_connection::write() {
  while (link_.online() && !write_blocked_ && machine_.has_output()) {
    const std::string_view bytes = machine_.output();
    if (bytes.empty()) break;
    const net::transfer sent = socket_.send(bytes);
    if (sent.how == net::transfer::status::done) machine_.wrote(sent.size);
    if (sent.how == net::transfer::status::failed) leave(lost_in(socket_, sent));
    write_blocked_ = sent.how == net::transfer::status::would_block;
  }
}

void push_connection::leave(failure why) {
  news_.add(events::push_lost, {}, 0, &why);
  link_.lost(why, net::clock::now(), random_fraction());
  machine_.disconnected(std::move(why), events_);
  socket_.abort();
  socket_ = {};
  write_blocked_ = false;
  restart_.reset();
}

void push_connection::deliver(lock& held) {
  news_.tell(held);
  if (events_.empty()) return;
  telling_.clear();
  telling_.swap(events_);
  held.unlock();
  for (push_event& each : telling_) told_(each);
  held.lock();
}

}  // namespace tenantry::detail
