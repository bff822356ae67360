#include "messaging/consumer_machine.hpp"

#include <algorithm>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

/// The server's clock and this one differ a little in how long a pause was.
constexpr auto slack = 5ms;
constexpr auto looks_again_after = 100ms;
constexpr int looks_at_most = 10;

std::chrono::milliseconds pause_before_attempt(const consume_options& how, std::uint32_t failed) noexcept {
  std::chrono::milliseconds pause = how.retry_after;
  for (std::uint32_t i = 1; i < failed && pause < how.claim_after; ++i) pause *= 2;
  return std::min(pause, how.claim_after);
}

}  // namespace

consumer_machine::consumer_machine(const consume_options& how) : how_{how} {}

consumer_machine::step consumer_machine::next(time_point now) {
  while (!queue_.empty() && queue_.front()->lost) {  // somebody else has been given it
    queue_.pop_front();
    wants_more_ = true;
  }
  const bool settles = !request_.settled.empty();
  if (!queue_.empty()) return settles && now - settled_first_ >= settles_after ? step::exchange : step::hand_out;
  return settles || wants_more_ || claims(now) ? step::exchange : step::wait;
}

void consumer_machine::settle(settled_work what, time_point now) {
  const work_ref of = std::move(queue_.front());
  queue_.pop_front();
  if (!of->id.starts_with(epoch_)) return;  // its log is gone
  if (request_.settled.empty()) settled_first_ = now;
  if (what.what == settled_work::outcome::again) {
    retrying_.push_back({.offset = of->offset, .attempts = what.attempts, .due = now + what.after + slack});
  }
  what.of = of;
  request_.settled.push_back(std::move(what));
}

void consumer_machine::done(time_point now) {
  ++counters_.handled;
  settle({}, now);
}

void consumer_machine::failed(std::string_view why, time_point now) {
  ++counters_.failed;
  const std::uint32_t attempt = current()->attempt;
  if (attempt < how_.max_attempts) {
    settle({.what = settled_work::outcome::again,
            .of = {},
            .after = pause_before_attempt(how_, attempt),
            .attempts = attempt},
           now);
    return;
  }
  undecodable(why, now);
}

void consumer_machine::undecodable(std::string_view why, time_point now) {
  ++counters_.dead;
  settle({.what = settled_work::outcome::dead,
          .of = {},
          .attempts = current()->attempt,
          .why = std::string{why.substr(0, 512)}},
         now);
}

bool consumer_machine::claims(time_point now) const noexcept {
  return !claim_from_.empty() || now >= claim_at_ ||
         std::ranges::any_of(retrying_, [now](const retrying& each) { return now >= each.due; });
}

consumer_machine::time_point consumer_machine::wait_until() const noexcept {
  time_point until = claim_at_;
  for (const retrying& each : retrying_) until = std::min(until, each.due);
  return until;
}

const work_request& consumer_machine::request(time_point now) {
  request_.epoch = epoch_;
  request_.count = queue_.empty() ? how_.batch : 0;
  request_.recover = recover_ ? how_.batch + retrying_.size() : 0;
  request_.claim_from.reset();
  if (request_.count > 0 && claims(now))
    request_.claim_from = claim_from_.empty() ? std::string{at_first} : claim_from_;
  return request_;
}

/// Those that were due have been claimed by now, by this consumer or another one; the server may only think otherwise
/// for a moment.
void consumer_machine::looked(time_point now) {
  for (retrying& each : retrying_) {
    if (now < each.due) continue;
    ++each.looked;
    each.due = now + looks_again_after;
  }
  std::erase_if(retrying_, [](const retrying& each) { return each.looked >= looks_at_most; });
}

/// True for one that only waits for its next attempt.
bool consumer_machine::handed_out_already(const held_work& given) {
  const auto found = std::ranges::find(retrying_, given.offset, &retrying::offset);
  if (found == retrying_.end()) return false;
  if (given.attempt == found->attempts) return true;
  retrying_.erase(found);
  return false;
}

void consumer_machine::answered(work_reply answer, time_point now) {
  const std::size_t asked = std::exchange(request_.count, 0);
  request_.settled.clear();
  request_.group_known = true;  // whatever is appended from now on is for it
  if (answer.epoch != epoch_) {
    epoch_ = std::move(answer.epoch);
    retrying_.clear();
  }
  counters_.lost += answer.trimmed;
  counters_.dead += answer.dead;
  if (asked == 0) return;
  const bool recovered = std::exchange(recover_, false) && !answer.given.empty();  // then nothing new was read
  if (request_.claim_from) {
    if (answer.claim_from.empty()) claim_at_ = now + how_.claim_after / 2;
    claim_from_ = std::move(answer.claim_from);
  }
  wants_more_ = answer.given.size() >= asked || recovered || !claim_from_.empty();
  for (auto& each : answer.given) {
    if (handed_out_already(*each)) continue;
    if (each->attempt > 1) ++counters_.again;
    queue_.push_back(std::move(each));
  }
  if (request_.claim_from) looked(now);
}

void consumer_machine::unanswered(bool may_have_run) noexcept {
  wants_more_ = true;
  if (may_have_run && request_.count > 0) recover_ = true;
}

const work_request& consumer_machine::leave(time_point now) {
  while (!queue_.empty()) {
    const work_ref first = queue_.front();
    if (first->lost) {
      queue_.pop_front();
      continue;
    }
    settle({.what = settled_work::outcome::again, .of = {}, .attempts = first->attempt - 1}, now);
  }
  (void)request(now);
  request_.count = 0;
  request_.claim_from.reset();
  request_.leave = true;
  return request_;
}

}  // namespace tenantry::detail
