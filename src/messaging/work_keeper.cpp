#include "messaging/work_keeper.hpp"

#include "engine/seam.hpp"
#include "messaging/scripts.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <exception>
#include <ranges>
#include <span>
#include <utility>

namespace tenantry::detail {

work_keeper::work_keeper(std::shared_ptr<log_state> log, const tenant_id& tenant, std::string group,
                         std::string consumer, std::chrono::milliseconds claim_after)
    : log_{std::move(log)},
      tenant_{tenant},
      group_{std::move(group)},
      consumer_{std::move(consumer)},
      period_{claim_after / 3} {}

void work_keeper::keep(const std::deque<work_ref>& given) {
  if (given.empty()) return;
  {
    const std::lock_guard held{mutex_};
    held_.insert(held_.end(), given.begin(), given.end());
    if (std::exchange(working_, true)) return;
  }
  start(work(shared_from_this()), [](const std::exception_ptr&) {});
}

void work_keeper::settled(const work_ref& what) noexcept {
  const std::lock_guard held{mutex_};
  const auto found = std::ranges::find(held_, what);
  if (found != held_.end()) held_.erase(found);
}

void work_keeper::stop() noexcept {
  stopped_.request_stop();
  const std::lock_guard held{mutex_};
  held_.clear();
}

std::vector<work_ref> work_keeper::due() {
  const std::lock_guard held{mutex_};
  return held_;
}

/// Events of one log each: of two only where it was reset.
std::vector<command> work_keeper::renewals(const std::vector<work_ref>& of) const {
  std::vector<command> commands;
  const std::string at = log_->name(tenant_);
  for (std::size_t i = 0; i < of.size();) {
    const std::string_view id = of[i]->id;
    const std::string_view epoch = id.substr(0, id.find('-'));
    std::vector<std::string> words{"EVAL",    scripts::keep_work().body(), "2", at, at + "#meta", group_,
                                   consumer_, std::string{epoch}};
    for (; i < of.size() && of[i]->id.starts_with(epoch); ++i) words.push_back(std::to_string(of[i]->offset));
    const std::vector<std::string_view> views{words.begin(), words.end()};
    commands.emplace_back(std::span{views});
  }
  return commands;
}

/// What is lost is not kept any more: when this consumer gets it again, it may fail, and wait for its next attempt.
/// The last is marked first: a handler that sees that its event is lost ends, and the next one must not be handed out.
void work_keeper::lost(const reply& answer, const std::vector<work_ref>& of) {
  const std::vector<reply>& words = answer.elements();
  if (words.empty()) return;
  for (const work_ref& each : of | std::views::reverse) {
    if (!each->id.starts_with(words[0].str())) continue;
    const auto offset = static_cast<std::int64_t>(each->offset);
    if (std::none_of(words.begin() + 1, words.end(), [&](const reply& lost) { return lost.integer() == offset; }))
      continue;
    each->lost = true;
    settled(each);
  }
}

/// On the I/O thread. Once the client is closed, and may be gone, nothing of it is used any more.
task<void> work_keeper::work(std::shared_ptr<work_keeper> self) {
  while (!self->stopped_.stop_requested()) {
    auto pausing = seam::pause_apart(self->log_->redis(), std::chrono::steady_clock::now() + self->period_,
                                     self->stopped_.get_token());
    const bool open = co_await std::move(pausing);
    if (!open || self->stopped_.stop_requested()) co_return;
    const std::vector<work_ref> held = self->due();
    if (held.empty()) continue;
    std::vector<reply> replies;
    try {
      auto sending = seam::execute_apart(self->log_->redis(), self->renewals(held));
      replies = co_await std::move(sending);
    } catch (const error& why) {
      if (why.code() == errc::closed) co_return;
      continue;  // the next one may do, or it is lost
    }
    for (const reply& answer : replies) {
      if (!answer.is_error()) self->lost(answer, held);
    }
  }
}

}  // namespace tenantry::detail
