// The two drivers of a consumer.

#include "engine/seam.hpp"
#include "messaging/consumer_machine.hpp"
#include "messaging/log_id.hpp"
#include "messaging/log_state.hpp"
#include "messaging/retry_pause.hpp"
#include "messaging/scripts.hpp"
#include "messaging/work_calls.hpp"
#include "messaging/work_keeper.hpp"

#include <tenantry/detail/feed_core.hpp>
#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>

#include <algorithm>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

/// What is published only wakes the consumer up.
constexpr subscription_options wakes_up{.capacity = 1, .overflow = overflow::drop_oldest};

constexpr std::chrono::milliseconds longest = std::chrono::years{100};

consume_options checked(consume_options how, const log_state& log) {
  if (how.batch == 0) throw invalid_option{"consume_options.batch is 0"};
  if (how.batch > 1000) throw invalid_option{"consume_options.batch is over 1000"};
  if (how.max_attempts == 0) throw invalid_option{"consume_options.max_attempts is 0"};
  if (how.retry_after < 0ms) throw invalid_option{"consume_options.retry_after is negative"};
  if (how.retry_after > longest) throw invalid_option{"consume_options.retry_after is more than 100 years"};
  if (how.claim_after > longest) throw invalid_option{"consume_options.claim_after is more than 100 years"};
  if (how.claim_after < 30ms) throw invalid_option{"consume_options.claim_after is less than 30 ms"};
  if (how.keep_dead == 0) throw invalid_option{"consume_options.keep_dead is 0"};
  how.batch = log.fitting(how.batch);
  return how;
}

consumer_counters operator+(consumer_counters a, const consumer_counters& b) noexcept {
  a.handled += b.handled;
  a.failed += b.failed;
  a.again += b.again;
  a.dead += b.dead;
  a.lost += b.lost;
  return a;
}

}  // namespace

class consume_state {
 public:
  consume_state(std::shared_ptr<log_state> log, subscriber& by, const tenant_id& tenant, std::string_view group,
                const consume_options& how)
      : log_{std::move(log)}, by_{by}, tenant_{tenant}, group_{group}, how_{checked(how, *log_)} {
    if (group.empty()) throw invalid_option{"the name of a consumer group is empty"};
  }

  [[nodiscard]] channel live_channel() const { return log_->live_channel(tenant_); }
  [[nodiscard]] subscriber& by() const noexcept { return by_; }
  void begin(feed_core feed);

  work_ref next(const std::stop_token& stop);
  task<work_ref> async_next(std::stop_token stop);
  void done();
  void failed(std::string_view why);
  void undecodable(std::string_view why);
  void leave() noexcept;
  task<void> async_leave();
  void stop() noexcept {
    if (!forked()) stopped_.request_stop();
  }
  /// True in the child of a fork, where it is over.
  [[nodiscard]] bool forked() const noexcept { return log_->forked(); }
  [[nodiscard]] consumer_counters counters() const noexcept {
    if (forked()) return {};
    const std::lock_guard held{mutex_};
    return counters_;
  }

 private:
  [[nodiscard]] work_calls calls() const { return {*log_, tenant_, group_, consumer_, how_}; }
  [[nodiscard]] caller by_caller() const {
    return log_->redis().with({.timeout = log_->timeout(), .retry = retry::never, .tenant = &tenant_});
  }
  [[nodiscard]] bool ends(const std::stop_token& stop) const noexcept {
    return forked() || over_ || stopped_.stop_requested() || stop.stop_requested();
  }
  reply exchanged(const work_request& about) const;
  task<reply> async_exchanged(const work_request& about) const;
  void came(const feed_item& item);
  void drain();
  void answered(const reply& to);
  void unanswered(const error& why);
  void count();
  void tell(std::string_view name, std::string_view number_name, std::uint64_t number, std::string_view why) const;

  const std::shared_ptr<log_state> log_;
  subscriber& by_;
  const tenant_id tenant_;
  const std::string group_;
  const consume_options how_;
  std::stop_source stopped_;

  // Of one run.
  std::string consumer_;
  std::optional<feed_core> feed_;
  std::optional<std::stop_callback<std::function<void()>>> wakes_;
  std::optional<consumer_machine> machine_;
  std::shared_ptr<work_keeper> keeper_;
  bool over_ = false;
  consumer_counters before_;  // of the runs before

  mutable std::mutex mutex_;
  consumer_counters counters_;
};

void consume_state::begin(feed_core feed) {
  consumer_ = new_epoch();  // another one for each run: what a run before it left is claimed
  wakes_.reset();
  feed_.emplace(std::move(feed));
  wakes_.emplace(stopped_.get_token(), [this] { feed_->unsubscribe(); });
  machine_.emplace(how_);
  keeper_ = std::make_shared<work_keeper>(log_, tenant_, group_, consumer_, how_.claim_after);
  over_ = false;
  before_ = counters();
}

void consume_state::count() {
  const consumer_counters now = before_ + machine_->counters();
  const std::lock_guard held{mutex_};
  counters_ = now;
}

void consume_state::tell(std::string_view name, std::string_view number_name, std::uint64_t number,
                         std::string_view why) const {
  seam::notify(log_->redis(), name,
               {{.name = "tenant", .value = std::string_view{tenant_.str()}},
                {.name = "group", .value = std::string_view{group_}},
                {.name = number_name, .value = static_cast<std::int64_t>(number)},
                {.name = "detail", .value = why}});
}

void consume_state::done() {
  keeper_->settled(machine_->current());
  machine_->done(clock::now());
  count();
}

void consume_state::failed(std::string_view why) {
  const work_ref of = machine_->current();
  keeper_->settled(of);
  machine_->failed(why, clock::now());
  count();
  tell(of->attempt < how_.max_attempts ? events::work_failed : events::dead_letter, "attempt", of->attempt, why);
}

void consume_state::undecodable(std::string_view why) {
  const work_ref of = machine_->current();
  keeper_->settled(of);
  machine_->undecodable(why, clock::now());
  count();
  tell(events::dead_letter, "attempt", of->attempt, why);
}

void consume_state::came(const feed_item& item) {
  const auto* const end = std::get_if<closed>(&item);
  if (end == nullptr) {
    machine_->news();
    return;
  }
  over_ = true;
  if (end->cause != closed_cause::refused) return;
  if (const auto* const refused = dynamic_cast<const server_error*>(end->why.get())) throw server_error{*refused};
}

/// What was published until now is in what Redis is asked for next.
void consume_state::drain() {
  while (const auto item = feed_->next({}, {})) came(*item);
}

void consume_state::answered(const reply& to) {
  work_reply read = work_calls::answer(to);
  const std::uint64_t trimmed = read.trimmed;
  const std::uint64_t dead = read.dead;
  const bool gave = !read.given.empty();
  machine_->answered(std::move(read), clock::now());
  if (gave) keeper_->keep(machine_->held());
  count();
  if (trimmed > 0) tell(events::work_lost, "count", trimmed, "the log does not keep them any more");
  if (dead > 0) tell(events::dead_letter, "count", dead, "nobody who was given them said what became of them");
}

void consume_state::unanswered(const error& why) {
  if (why.code() == errc::closed) {
    over_ = true;
  } else if (!passes_by_itself(why)) {
    throw;  // the one that is being handled
  }
  machine_->unanswered(why.execution() == execution::unknown);
}

reply consume_state::exchanged(const work_request& about) const {
  const std::vector<std::string> keys = calls().keys();
  const std::vector<std::string> arguments = calls().arguments(about);
  const std::vector<std::string_view> key_views{keys.begin(), keys.end()};
  const std::vector<std::string_view> argument_views{arguments.begin(), arguments.end()};
  return by_caller().eval(scripts::take_work(), key_views, argument_views);
}

task<reply> consume_state::async_exchanged(const work_request& about) const {
  return by_caller().async_eval(scripts::take_work(), calls().keys(), calls().arguments(about));
}

work_ref consume_state::next(const std::stop_token& stop) {
  if (forked()) return {};  // before a token is locked
  const std::stop_callback wakes{stop, [this] { feed_->unsubscribe(); }};
  while (!ends(stop)) {
    switch (machine_->next(clock::now())) {
      case consumer_machine::step::hand_out:
        return machine_->current();
      case consumer_machine::step::wait:
        if (const auto item = feed_->next(machine_->wait_until(), stop)) came(*item);
        break;
      case consumer_machine::step::exchange:
        drain();
        try {
          answered(exchanged(machine_->request(clock::now())));
        } catch (const error& why) {
          unanswered(why);
          if (ends(stop)) break;
          pause_thread(clock::time_point::max(), stop);
        }
        break;
    }
  }
  return {};
}

task<work_ref> consume_state::async_next(std::stop_token stop) {
  while (!ends(stop)) {
    const auto step = machine_->next(clock::now());
    if (step == consumer_machine::step::hand_out) co_return machine_->current();
    if (step == consumer_machine::step::wait) {
      auto waiting = feed_->async_next(machine_->wait_until(), stop);
      const auto item = co_await std::move(waiting);
      if (item) came(*item);
      continue;
    }
    drain();
    bool failed = false;
    try {
      auto exchanging = async_exchanged(machine_->request(clock::now()));
      const reply read = co_await std::move(exchanging);
      answered(read);
    } catch (const error& why) {
      unanswered(why);
      failed = true;
    }
    if (!failed || ends(stop)) continue;
    auto pausing = seam::pause(log_->redis(), clock::now() + pause_after_failure, stop);
    const bool open = co_await std::move(pausing);
    if (!open) over_ = true;
  }
  co_return work_ref{};
}

/// What cannot be said now is claimed later.
void consume_state::leave() noexcept {
  keeper_->stop();
  try {
    if (machine_->recovers()) answered(exchanged(machine_->request(clock::now())));
    answered(exchanged(machine_->leave(clock::now())));
  } catch (...) {
  }
  wakes_.reset();
  feed_->unsubscribe();
}

task<void> consume_state::async_leave() {
  if (forked()) co_return;
  keeper_->stop();
  try {
    if (machine_->recovers()) {
      auto recovering = async_exchanged(machine_->request(clock::now()));
      const reply found = co_await std::move(recovering);
      answered(found);
    }
    auto exchanging = async_exchanged(machine_->leave(clock::now()));
    const reply read = co_await std::move(exchanging);
    answered(read);
  } catch (...) {
  }
  wakes_.reset();
  feed_->unsubscribe();
}

consume_core::consume_core(std::shared_ptr<log_state> log, subscriber& by, const tenant_id& tenant,
                           std::string_view group, const consume_options& how)
    : state_{std::make_unique<consume_state>(std::move(log), by, tenant, group, how)} {}
consume_core::consume_core(consume_core&&) noexcept = default;
consume_core& consume_core::operator=(consume_core&& from) noexcept {
  const consume_core before{std::move(*this)};
  state_ = std::move(from.state_);
  return *this;
}
consume_core::~consume_core() {
  if (state_ && state_->forked()) leave_to_parent(std::move(state_));
}

void consume_core::begin() { state_->begin(state_->by().listen(state_->live_channel(), wakes_up)); }
task<void> consume_core::async_begin() {
  auto listening = state_->by().async_listen(state_->live_channel(), wakes_up);
  feed_core feed = co_await std::move(listening);
  state_->begin(std::move(feed));
}
work_ref consume_core::next(const std::stop_token& stop) { return state_->next(stop); }
task<work_ref> consume_core::async_next(std::stop_token stop) { return state_->async_next(std::move(stop)); }
void consume_core::done() {
  if (!state_->forked()) state_->done();
}
void consume_core::failed(std::string_view why) {
  if (!state_->forked()) state_->failed(why);
}
void consume_core::undecodable(std::string_view why) {
  if (!state_->forked()) state_->undecodable(why);
}
void consume_core::leave() noexcept {
  if (!state_->forked()) state_->leave();
}
task<void> consume_core::async_leave() { return state_->async_leave(); }
void consume_core::stop() noexcept { state_->stop(); }
consumer_counters consume_core::counters() const noexcept { return state_->counters(); }

std::string_view id_of(const held_work& event) noexcept { return event.id; }
std::string_view bytes_of(const held_work& event) noexcept { return event.payload; }
std::uint32_t attempt_of(const held_work& event) noexcept { return event.attempt; }
bool lost(const held_work& event) noexcept { return event.lost; }

}  // namespace tenantry::detail
