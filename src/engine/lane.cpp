#include "engine/lane.hpp"

#include <algorithm>

namespace tenantry::detail {

void lane::enqueue(exchange& call) {
  call.now = exchange::state::queued;
  queued_.push_back(&call);
}

void lane::stage() {
  output_begin_ += output_.size();
  output_.clear();
  written_ = 0;
  if (output_.capacity() > 2 * batch) output_.shrink_to_fit();  // a large command has passed
  while (!queued_.empty() && output_.size() < batch) {
    exchange& call = *queued_.front();
    in_flight_.push_back({.owner = &call, .total = call.commands.size(), .begin = output_begin_ + output_.size()});
    queued_.pop_front();
    for (const command& each : call.commands) output_ += each.bytes();
    call.now = exchange::state::staged;
  }
}

std::string_view lane::output() {
  if (written_ == output_.size()) stage();
  return std::string_view{output_}.substr(written_);
}

void lane::wrote(std::size_t size) noexcept { written_ += size; }

void lane::received(std::size_t size, std::vector<exchange*>& settled) {
  reader_->filled(size);
  while (auto answer = reader_->next()) {
    if (in_flight_.empty()) {
      throw connection_error{errc::protocol, execution::unknown, "a reply that no command waits for"};
    }
    slot& first = in_flight_.front();
    if (first.owner != nullptr) first.owner->replies[first.answered] = *std::move(answer);
    if (++first.answered < first.total) continue;
    if (first.owner != nullptr) {
      first.owner->now = exchange::state::done;
      settled.push_back(first.owner);
    }
    in_flight_.pop_front();
  }
}

execution lane::abandon(exchange& call) {
  if (call.now == exchange::state::queued) {
    queued_.remove(&call);
    return execution::not_sent;
  }
  for (slot& each : in_flight_.items()) {
    if (each.owner == &call) each.owner = nullptr;
  }
  return execution::unknown;
}

void lane::fail(exchange& call, const failure& why, execution what, std::vector<exchange*>& settled) {
  call.now = exchange::state::failed;
  call.why = why;
  call.why.what = what;
  settled.push_back(&call);
}

void lane::ended(const failure& why, std::vector<exchange*>& settled) {
  const std::uint64_t written = output_begin_ + written_;
  std::vector<exchange*> unsent;
  for (const slot& each : in_flight_.items()) {
    if (each.owner == nullptr) continue;
    if (each.begin < written) {
      fail(*each.owner, why, execution::unknown, settled);
    } else {
      each.owner->now = exchange::state::queued;
      unsent.push_back(each.owner);
    }
  }
  queued_.push_front(unsent);
  in_flight_.clear();
  output_.clear();
  written_ = 0;
  output_begin_ = 0;
  reader_.reset();
}

void lane::unreachable(const failure& why, std::vector<exchange*>& settled) {
  for (exchange* call : queued_.items()) fail(*call, why, execution::not_sent, settled);
  queued_.clear();
}

exchange* lane::somebody(const exchange* except) const noexcept {
  for (const slot& each : in_flight_.items()) {
    if (each.owner != nullptr && each.owner != except) return each.owner;
  }
  for (exchange* each : queued_.items()) {
    if (each != except) return each;
  }
  return nullptr;
}

}  // namespace tenantry::detail
