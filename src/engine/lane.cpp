#include "engine/lane.hpp"

#include "engine/command_rules.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

/// A connection that is retired sooner after its start would not lead anywhere else.
constexpr auto shortest_life = 1s;

}  // namespace

bool lane::enqueue(exchange& call) {
  if (!waiting_.push(call, !online_)) {
    counters().overloaded += call.commands.size();
    return false;
  }
  counters().commands += call.commands.size();
  call.become(exchange::state::queued);
  return true;
}

void lane::connected(time_point now) {
  reader_.emplace(limits_);
  online_ = true;
  ++counters().connects;
  connected_at_ = now;
  received_at_ = now;
}

void lane::stage() {
  output_begin_ += output_.size();
  output_.clear();
  written_ = 0;
  if (output_.capacity() > 2 * batch) output_.shrink_to_fit();  // a large command has passed
  while (output_.size() < batch && !retired_) {
    in_flight_.make_room();  // before the call leaves its queue
    exchange* const call = waiting_.pop();
    if (call == nullptr) break;
    call->slot = first_slot_ + in_flight_.size();
    in_flight_.push_back({.owner = call,
                          .total = call->commands.size(),
                          .bytes = call->bytes,
                          .begin = output_begin_ + output_.size(),
                          .deadline = call->deadline});
    for (const command& each : call->commands) output_ += each.bytes();
    call->become(exchange::state::staged);
  }
}

std::string_view lane::output() {
  if (written_ == output_.size()) stage();
  return std::string_view{output_}.substr(written_);
}

void lane::wrote(std::size_t size, time_point now) noexcept {
  written_ += size;
  ++counters().writes;
  counters().bytes_sent += size;
  const std::uint64_t position = output_begin_ + written_;
  const std::span<slot> slots = in_flight_.items();
  while (stamped_ < slots.size() && slots[stamped_].begin < position) {
    slots[stamped_].written = now;
    if (slots[stamped_].begin + slots[stamped_].bytes > position) break;
    ++stamped_;
  }
}

void lane::parse(std::size_t size) noexcept {
  try {
    received_bytes_ += size;
    reader_->filled(size);
    while (auto answer = reader_->next()) parsed_.push_back(*std::move(answer));
  } catch (const error& fault) {
    defect_ = failure{.code = fault.code(), .what = execution::unknown, .detail = fault.what()};
  } catch (const std::bad_alloc&) {
    defect_ = failure{.code = errc::connection_lost, .what = execution::unknown, .detail = "out of memory"};
  }
}

std::optional<failure> lane::match(time_point now, std::vector<exchange*>& complete) {
  std::optional<failure> defect;
  ++counters().reads;
  counters().bytes_received += std::exchange(received_bytes_, 0);
  counters().replies += parsed_.size();
  for (reply& answer : parsed_) {
    if (in_flight_.empty()) {
      defect =
          failure{.code = errc::protocol, .what = execution::unknown, .detail = "a reply that no command waits for"};
    }
    if (answer.is_error()) judge(answer.error_text(), now, defect);
    if (defect) break;
    slot& first = in_flight_.front();
    if (first.owner != nullptr) first.owner->replies[first.answered] = std::move(answer);
    if (++first.answered < first.total) continue;
    if (first.owner != nullptr) {
      waiting_calls::leave_share(*first.owner);
      complete.push_back(first.owner);
    } else {
      ++counters().late_replies;
    }
    if (first.written != time_point{}) counters_.round_trip.record(now - first.written);  // else the writer is not back
    waiting_.release(first.total, first.bytes);
    in_flight_.pop_front();
    ++first_slot_;
    if (stamped_ > 0) --stamped_;
  }
  parsed_.clear();
  received_at_ = now;
  if (!defect) defect = std::exchange(defect_, std::nullopt);
  return defect;
}

/// Errors that are about the connection rather than one command.
void lane::judge(std::string_view error, time_point now, std::optional<failure>& defect) {
  if (defect) return;
  switch (judge_connection(error)) {
    case connection_rule::stays:
      break;
    case connection_rule::retires:
      if (now - connected_at_ >= shortest_life) retired_ = true;
      break;
    case connection_rule::ends:
      defect = failure{.code = errc::protocol, .what = execution::unknown, .detail = std::string{error}};
      break;
  }
}

execution lane::abandon(exchange& call) noexcept {
  if (call.is(exchange::state::queued)) {
    waiting_.remove(call);
    return execution::not_sent;
  }
  ++counters().tombstones;
  waiting_calls::leave_share(call);
  in_flight_.items()[call.slot - first_slot_].owner = nullptr;
  return execution::unknown;
}

void lane::count_timeout(bool staged) noexcept {
  if (staged) {
    ++counters().timeouts_unanswered;
  } else if (online_) {
    ++counters().timeouts_queued;
  } else {
    ++counters().timeouts_connecting;
  }
}

void lane::fail(exchange& call, const failure& why, execution what, std::vector<exchange*>& complete) {
  call.why = why;
  call.why.what = what;
  call.failed = true;
  complete.push_back(&call);
}

void lane::ended(const failure& why, std::vector<exchange*>& complete) {
  if (why.code != errc::closed) ++counters().connection_losses;
  const std::uint64_t written = output_begin_ + written_;
  std::vector<exchange*> unsent;
  for (const slot& each : in_flight_.items()) {
    if (each.owner != nullptr && each.begin >= written) {
      each.owner->become(exchange::state::queued);
      unsent.push_back(each.owner);  // released when it is put back
      continue;
    }
    waiting_.release(each.total, each.bytes);
    if (each.owner == nullptr) continue;
    waiting_calls::leave_share(*each.owner);
    fail(*each.owner, why, execution::unknown, complete);
  }
  waiting_.put_back(unsent);
  first_slot_ += in_flight_.size();
  in_flight_.clear();
  stamped_ = 0;
  output_.clear();
  written_ = 0;
  output_begin_ = 0;
  reader_.reset();
  parsed_.clear();
  defect_.reset();
  online_ = false;
  retired_ = false;
}

lane::time_point lane::stalled_at(std::chrono::milliseconds limit) const noexcept {
  if (in_flight_.empty()) return time_point::max();
  const slot& oldest = in_flight_.items().front();
  if (oldest.written == time_point{} || oldest.deadline == time_point::max()) return time_point::max();
  return std::max(std::max(oldest.written, received_at_) + limit, oldest.deadline);
}

exchange* lane::somebody(const exchange* except, const exchange* nor) const noexcept {
  for (const slot& each : in_flight_.items()) {
    if (each.owner != nullptr && each.owner != except && each.owner != nor) return each.owner;
  }
  return waiting_.other_than(except, nor);
}

}  // namespace tenantry::detail
