#include "engine/waiting_calls.hpp"

#include <algorithm>
#include <ranges>

namespace tenantry::detail {

namespace {

/// Shares of tenants that were active once are kept for the next call, up to this many at least.
constexpr std::size_t kept_shares = 1024;

bool fits(std::size_t taken, std::size_t more, std::size_t bound) noexcept {
  return taken == 0 || (taken < bound && more <= bound - taken);
}

std::size_t part(std::size_t bound, double share) noexcept {
  return static_cast<std::size_t>(static_cast<double>(bound) * share);
}

}  // namespace

tenant_share& waiting_calls::share_of(std::string_view tenant) {
  if (tenant.empty()) return nobody_;
  if (const auto known = shares_.find(tenant); known != shares_.end()) return *known->second;
  if (shares_.size() >= sweep_at_) forget_idle_shares();
  auto fresh = std::make_unique<tenant_share>();
  fresh->name = tenant;
  tenant_share& result = *fresh;
  shares_.emplace(result.name, std::move(fresh));
  return result;
}

void waiting_calls::forget_idle_shares() {
  for (std::size_t left = turns_.size(); left > 0; --left) {
    tenant_share& share = *turns_.front();
    turns_.pop_front();
    share.in_turn = false;
    if (share.first != nullptr) take_turn(share);
  }
  std::erase_if(shares_, [](const auto& entry) {
    const tenant_share& share = *entry.second;
    return !share.in_turn && share.in_flight == 0;
  });
  sweep_at_ = std::max(kept_shares, 2 * shares_.size());
}

void waiting_calls::take_turn(tenant_share& share) {
  if (share.in_turn) return;
  turns_.push_back(&share);
  share.in_turn = true;
}

bool waiting_calls::push(exchange& call, bool while_down) {
  const std::size_t commands = call.commands.size();
  std::size_t bytes = 0;
  for (const command& each : call.commands) bytes += each.bytes().size();

  const std::size_t most = while_down ? bounds_.queued_while_down : bounds_.queued;
  const std::size_t most_bytes = while_down ? bounds_.queued_bytes_while_down : bounds_.queued_bytes;
  if (!fits(queued_, commands, most) || !fits(queued_bytes_, bytes, most_bytes)) return false;
  tenant_share& share = share_of(call.tenant);
  if (&share != &nobody_ && (!fits(share.queued, commands, part(most, bounds_.tenant_share)) ||
                             !fits(share.queued_bytes, bytes, part(most_bytes, bounds_.tenant_share)))) {
    return false;
  }

  take_turn(share);
  call.bytes = bytes;
  call.share = &share;
  call.next = nullptr;
  call.previous = share.last;
  (share.last != nullptr ? share.last->next : share.first) = &call;
  share.last = &call;
  share.queued += commands;
  share.queued_bytes += bytes;
  queued_ += commands;
  queued_bytes_ += bytes;
  return true;
}

bool waiting_calls::can_pop() const noexcept {
  if (queued_ == 0) return false;
  if (in_flight_ == 0) return true;
  if (in_flight_ >= bounds_.in_flight || in_flight_bytes_ >= bounds_.in_flight_bytes) return false;
  for (const tenant_share* share : turns_.items()) {
    if (share->first != nullptr && has_room_in_flight(*share)) return true;
  }
  return false;
}

bool waiting_calls::has_room_in_flight(const tenant_share& share) const noexcept {
  if (&share == &nobody_ || share.in_flight == 0) return true;
  return share.in_flight < part(bounds_.in_flight, bounds_.tenant_share) &&
         share.in_flight_bytes < part(bounds_.in_flight_bytes, bounds_.tenant_share);
}

exchange* waiting_calls::pop() {
  if (!can_pop()) return nullptr;
  for (std::size_t tries = turns_.size(); tries > 0; --tries) {
    tenant_share& share = *turns_.front();
    turns_.pop_front();
    share.in_turn = false;
    if (share.first == nullptr) continue;
    if (!has_room_in_flight(share)) {
      take_turn(share);
      continue;
    }
    exchange& call = *share.first;
    remove(call);
    if (share.first != nullptr) take_turn(share);
    share.in_flight += call.commands.size();
    share.in_flight_bytes += call.bytes;
    in_flight_ += call.commands.size();
    in_flight_bytes_ += call.bytes;
    return &call;
  }
  return nullptr;
}

void waiting_calls::remove(exchange& call) noexcept {
  tenant_share& share = *call.share;
  (call.previous != nullptr ? call.previous->next : share.first) = call.next;
  (call.next != nullptr ? call.next->previous : share.last) = call.previous;
  call.next = call.previous = nullptr;
  share.queued -= call.commands.size();
  share.queued_bytes -= call.bytes;
  queued_ -= call.commands.size();
  queued_bytes_ -= call.bytes;
}

void waiting_calls::put_back(std::span<exchange* const> calls) {
  for (exchange* call : calls | std::views::reverse) {
    tenant_share& share = *call->share;
    leave_share(*call);
    release(call->commands.size(), call->bytes);
    take_turn(share);
    call->share = &share;
    call->previous = nullptr;
    call->next = share.first;
    (share.first != nullptr ? share.first->previous : share.last) = call;
    share.first = call;
    share.queued += call->commands.size();
    share.queued_bytes += call->bytes;
    queued_ += call->commands.size();
    queued_bytes_ += call->bytes;
  }
}

void waiting_calls::leave_share(exchange& call) noexcept {
  call.share->in_flight -= call.commands.size();
  call.share->in_flight_bytes -= call.bytes;
  call.share = nullptr;
}

void waiting_calls::release(std::size_t commands, std::size_t bytes) noexcept {
  in_flight_ -= commands;
  in_flight_bytes_ -= bytes;
}

std::vector<exchange*> waiting_calls::all() const {
  std::vector<exchange*> calls;
  for (const tenant_share* share : turns_.items()) {
    for (exchange* call = share->first; call != nullptr; call = call->next) calls.push_back(call);
  }
  return calls;
}

exchange* waiting_calls::other_than(const exchange* except, const exchange* nor) const noexcept {
  for (const tenant_share* share : turns_.items()) {
    exchange* call = share->first;
    while (call != nullptr && (call == except || call == nor)) call = call->next;
    if (call != nullptr) return call;
  }
  return nullptr;
}

}  // namespace tenantry::detail
