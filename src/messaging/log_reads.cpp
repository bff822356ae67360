#include "messaging/log_reads.hpp"

#include <tenantry/error.hpp>

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace tenantry::detail {

using state = log_reads::state;

namespace {

/// Calls `with` with a copy of it, of the type that it has, which shares nothing with it.
template <class With>
auto copied(const error& why, With with) {
  if (const auto* const told = dynamic_cast<const server_error*>(&why)) {
    return with(server_error{"EVALSHA", told->server_text()});
  }
  const std::string text = why.what();
  if (dynamic_cast<const timeout_error*>(&why)) return with(timeout_error{why.code(), why.execution(), text});
  if (dynamic_cast<const connection_error*>(&why)) return with(connection_error{why.code(), why.execution(), text});
  return with(error{why.code(), why.execution(), text});
}

}  // namespace

std::size_t log_question::hash() const noexcept {
  constexpr std::uint64_t odd = 0x9e3779b97f4a7c15U;
  return std::hash<tenant_id>{}(*tenant) ^ ((from * odd + count) * odd);
}

shared_log_read::shared_log_read(log_reads& together, const log_question& what, time_point alone_from)
    : together_{together}, alone_from_{alone_from}, mine_{what} {
  together_.join(mine_);
}

shared_log_read::~shared_log_read() {
  if (settled_ || alone_ || mine_.now() == state::ended) return;
  if (mine_.now() == state::waits && together_.leave(mine_)) return;
  if (mine_.now() == state::leads) together_.resign(mine_);
}

shared_log_read::step shared_log_read::next(time_point now, end_of_wait why) {
  if (settled_) return step::done;
  if (mine_.now() == state::waits) {
    if (why == end_of_wait::none && now < alone_from_) return step::wait;
    alone_ = together_.leave(mine_).has_value();
    if (alone_ && why == end_of_wait::out_of_time) {
      settled_ = true;
      return step::done;
    }
  }
  if (!alone_ && mine_.now() == state::ended) return step::done;
  if (why == end_of_wait::stopped) {
    withdraw();
    return step::done;
  }
  if (why == end_of_wait::client_closed) {  // the same is true for those who go with it
    failed(connection_error{errc::closed, execution::not_sent, "the client was closed"});
    return step::done;
  }
  if (!alone_ && !std::exchange(begun_, true)) together_.begin(mine_);
  return step::ask;
}

void shared_log_read::settle(log_answer with) {
  own_ = with;
  settled_ = true;
  if (alone_) return;
  if (!std::exchange(begun_, true)) together_.begin(mine_);
  together_.end(mine_, std::move(with));
}

void shared_log_read::answered(shared_page page) { settle({.page = std::move(page), .failure = {}}); }

void shared_log_read::failed(const error& why) {
  settle({.page = {}, .failure = copied(why, []<class Error>(const Error& copy) -> std::shared_ptr<const error> {
                        return std::make_shared<const Error>(copy);
                      })});
}

void shared_log_read::withdraw() {
  settled_ = true;
  if (!alone_) together_.resign(mine_);
}

shared_page shared_log_read::result() const {
  const log_answer& told = settled_ ? own_ : mine_.outcome();
  if (told.failure) copied(*told.failure, []<class Error>(const Error& copy) { throw Error{copy}; });
  return told.page;
}

}  // namespace tenantry::detail
