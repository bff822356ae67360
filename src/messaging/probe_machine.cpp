#include "messaging/probe_machine.hpp"

#include "engine/seam.hpp"

#include <algorithm>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds grace = 1s;
constexpr int most_doublings = 4;

/// Far in the future without overflow.
probe_options sane(probe_options how) {
  how.interval = std::min<std::chrono::milliseconds>(how.interval, 24h);
  how.timeout = std::min<std::chrono::milliseconds>(how.timeout, 24h);
  return how;
}

}  // namespace

probe_machine::probe_machine(const probe_options& how) : how_{sane(how)} {}

void probe_machine::rest(time_point now, std::chrono::milliseconds span) noexcept {
  now_ = stage::resting;
  until_ = now + span;
}

void probe_machine::confirmed(std::uint64_t generation, time_point now) noexcept {
  generation_ = generation;
  rest(now, doubled(how_.interval, failures_, how_.interval * (1 << most_doublings)));
}

std::optional<std::uint64_t> probe_machine::due(time_point now) noexcept {
  if (now_ != stage::resting || now < until_) return std::nullopt;
  now_ = stage::sending;
  return ++number_;
}

void probe_machine::accepted(std::uint64_t number, time_point now) noexcept {
  if (now_ != stage::sending || number != number_) return;
  now_ = stage::awaiting;
  until_ = now + how_.timeout;
}

void probe_machine::failed(std::uint64_t number, time_point now) noexcept {
  if (now_ == stage::sending && number == number_) rest(now, how_.interval);
}

void probe_machine::arrived(std::uint64_t number, time_point now) noexcept {
  if (now_ == stage::off || now_ == stage::resting || number != number_) return;
  failures_ = 0;
  rest(now, how_.interval);
}

std::optional<std::uint64_t> probe_machine::late(time_point now) noexcept {
  if ((now_ != stage::awaiting && now_ != stage::overdue) || now < until_) return std::nullopt;
  if (now_ == stage::awaiting) {
    now_ = stage::overdue;
    until_ = now + std::min(grace, how_.timeout);
    return std::nullopt;
  }
  now_ = stage::off;
  failures_ = std::min(failures_ + 1, most_doublings);
  return generation_;
}

probe_machine::time_point probe_machine::next() const noexcept {
  return now_ == stage::off || now_ == stage::sending ? time_point::max() : until_;
}

}  // namespace tenantry::detail
