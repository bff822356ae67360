#include "limiting/acquisition.hpp"

#include <algorithm>
#include <utility>

namespace tenantry::detail {

using coalesced_state = limit_calls::state;

acquisition::acquisition(limiter_memory& memory, const limited_view& name, std::uint64_t cost, const limit_rules& rules)
    : memory_{memory}, name_{name}, cost_{cost}, rules_{rules}, mine_{{.name = name_, .cost = cost, .rules = &rules}} {
  memory_.together.join(mine_);
}

/// When the driver was left by an exception, the others must not wait for it.
acquisition::~acquisition() {
  if (settled_ || mine_.now() == coalesced_state::ended) return;
  if (memory_.together.leave(mine_) || mine_.now() == coalesced_state::ended) return;
  settle(nullptr, nullptr, {});
}

acquisition::step acquisition::next(time_point now, time_point deadline, bool closed) {
  if (settled_ || mine_.now() == coalesced_state::ended) return step::done;
  if (mine_.now() == coalesced_state::leads) return step::ask;
  if (now < deadline && !closed) return step::wait;
  const auto left = memory_.together.leave(mine_);
  if (!left) return mine_.now() == coalesced_state::leads ? step::ask : step::done;
  failure_ = std::make_shared<const error>(
      closed ? error{errc::closed, *left, "the client was closed"}
             : error{errc::timeout, *left, "the call that this request was a part of takes too long"});
  settled_ = true;
  return step::done;
}

limit_question acquisition::question(time_point now) {
  sent_ = now;
  if (memory_.denials) denials_changes_ = memory_.denials->changes(name_);
  asked_for_ = memory_.together.begin(mine_);
  limit_question asked{.what = limit_operation::take, .cost = cost_, .requests = asked_for_};
  if (memory_.ahead && rules_.may_take_ahead(cost_, memory_.ahead->life())) {
    ahead_changes_ = memory_.ahead->changes();
    asked.ahead = memory_.ahead->life();
    asked.requests += memory_.ahead->wanted(name_, rules_, now) / cost_;
  }
  return asked;
}

void acquisition::answered(const limit_answer& answer, time_point received) {
  const std::uint64_t needed = asked_for_ * cost_;
  if (memory_.ahead && rules_.may_take_ahead(cost_, memory_.ahead->life())) {
    const std::uint64_t more = answer.granted > needed ? answer.granted - needed : 0;
    memory_.ahead->add(name_, more, rules_, answer, sent_, received, ahead_changes_);
  }
  if (answer.granted > 0 && memory_.denials) memory_.denials->drop(name_);
  if (answer.granted < needed && memory_.denials) {
    memory_.denials->add(name_, cost_, rules_, answer, sent_, received, denials_changes_);
  }
  settle(&answer, nullptr, received);
}

void acquisition::failed(const error& why, time_point received) {
  settle(nullptr, std::make_shared<const error>(why), received);
}

void acquisition::settle(const limit_answer* answer, std::shared_ptr<const error> failure, time_point received) {
  if (answer != nullptr) answer_ = *answer;
  failure_ = failure;
  received_ = received;
  settled_ = true;
  if (asked_for_ == 0) asked_for_ = memory_.together.begin(mine_);
  memory_.together.end(mine_, {.answer = answer_, .failure = std::move(failure), .received = received});
}

std::optional<decision> acquisition::result(time_point now) const {
  const bool theirs = !settled_;
  const auto& answer = theirs ? mine_.outcome().answer : answer_;
  if (!answer) return std::nullopt;
  const std::uint64_t after_mine = (mine_.rank() + 1) * cost_;
  limit_share share;
  if (after_mine <= answer->granted) share = {.granted = cost_, .taken_after = answer->granted - after_mine};
  const auto since = now - (theirs ? mine_.outcome().received : received_);
  share.since = std::max(std::chrono::duration_cast<std::chrono::microseconds>(since), std::chrono::microseconds{0});
  return rules_.decide(limit_operation::take, cost_, *answer, share);
}

std::shared_ptr<const error> acquisition::failure() const {
  auto why = settled_ ? failure_ : mine_.outcome().failure;
  if (why) return why;
  return std::make_shared<const error>(errc::timeout, execution::unknown, "the call ended without an answer");
}

}  // namespace tenantry::detail
