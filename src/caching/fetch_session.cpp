#include "caching/fetch_session.hpp"

#include <tenantry/detail/load_scope.hpp>
#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/observer.hpp>

#include <stdexcept>
#include <utility>

namespace tenantry::detail {

namespace {

using clock = std::chrono::steady_clock;

}  // namespace

fetch_session::fetch_session(cache_state& on, key k, fetcher who, std::shared_ptr<const load_chain> inside)
    : key_{std::move(k)},
      machine{key_, on.rules(), who == fetcher::outside},
      on_{on},
      tenant_{key_.tenant()},
      by_{on.through(tenant_)},
      who_{who},
      holds_thread_{load_scope::active() || (inside && inside->holds_thread)},
      inside_{std::move(inside)} {}

fetch_session::~fetch_session() {
  if (!landed_) land(std::nullopt, fault_ ? fault_ : std::current_exception());
}

/// While an invalidation of the key could not be delivered, what is in Redis may be what it was to remove.
void fetch_session::begin() {
  const std::uint64_t undelivered = on_.undelivered().concerning(key_);
  if (undelivered == 0) {
    step = machine.begin(on_.near() != nullptr ? on_.near()->known_stamp(key_) : std::nullopt);
  } else {
    step = machine.begin_apart("after " + std::to_string(undelivered),
                               {errc::unreachable, execution::not_sent, "an invalidation is not delivered yet"});
  }
}

/// To be called before the requests are sent: the flight has to be there as soon as its lease can be seen by others.
void fetch_session::announce() {
  announce_near();
  if (!machine.asks_for_lease()) return;
  withdraw();
  announced_ = on_.under_way().announce(key_.str(), machine.asked_lease());
  if (!may_leave()) announced_->lead();
}

void fetch_session::withdraw() noexcept {
  if (announced_) on_.under_way().withdraw(key_.str(), announced_);
  announced_.reset();
}

/// Ends the flights that it leads. What was announced, and may have been joined although the answer was lost, ends as
/// the load that was made instead.
void fetch_session::land(std::optional<fetched> what, const std::exception_ptr& fault) noexcept {
  landed_ = true;
  if (announced_ && announced_ != joined_) on_.under_way().land(key_.str(), announced_, what, fault);
  if (machine.leads()) on_.under_way().land(key_.str(), joined_, what, fault);
  if (own_) on_.under_way().land(key_.str(), own_, std::move(what), fault);
  announced_.reset();
}

bool fetch_session::may_leave() const noexcept {
  return who_ == fetcher::outside && !stays_ && on_.options().executor != nullptr;
}

bool fetch_session::can_leave() const noexcept {
  if (away_ || !may_leave()) return false;
  return step == fetch_step::load || (step == fetch_step::ask && machine.refreshing());
}

std::shared_ptr<flight> fetch_session::hand_over() {
  if (!machine.leads()) own_ = std::make_shared<flight>(key_.str());
  away_ = true;
  return led();
}

void fetch_session::begin_refresh(const fetch_machine& of) {
  away_ = true;
  step = machine.begin_refresh(of.refresh_below());
}

void fetch_session::check_not_stopped() const {
  if (!stopped()) return;
  throw timeout_error{errc::cancelled, execution::not_sent, key_.str() + ": its load was stopped before it began"};
}

/// Others may ask from now on whether this thread waits for them.
void fetch_session::lead_here() const {
  if (const auto load = led()) load->lead();
}

bool fetch_session::may_follow(flight& load) const {
  return who_ == fetcher::coroutine_inside ? load.begin_await(*inside_) : load.begin_wait();
}

void fetch_session::follow(std::shared_ptr<flight> load, const fetch_machine& of) {
  joined_ = std::move(load);
  step = machine.begin_following(of.has_copy() && !of.soft_over(), of.redis_failed(),
                                 of.waits_since().value_or(clock::now()));
}

void fetch_session::answered(answers all) {
  const bool asked_for_stamp = machine.asks_for_value() && !machine.knew_stamp() && !on_.rules().bare;
  const bool asked_for_tags = machine.asks_for_tags();
  const bool asked_for_lease = machine.asks_for_lease();
  const bool ended_load = machine.ends_load();
  const error* const before = machine.failure().get();
  writing_.reset();
  if (ticket_) ticket_->tracked = ticket_->tracked && all.tracked;
  step = machine.answered(all.replies, clock::now());
  note_near(asked_for_stamp, asked_for_tags);
  if (machine.failure().get() != before) on_.count(ended_load ? cache_event::store_failure : cache_event::read_failure);
  if (asked_for_lease && !machine.holds_lease()) withdraw();
  const auto found = machine.take_findings();
  if (found.wrong_type) on_.count(cache_event::wrong_type);
  if (found.defect) on_.count(cache_event::undecodable);
}

/// What is read from now on is kept only where nothing is heard of it until then.
void fetch_session::announce_near() {
  if (machine.stores()) writing_.emplace(std::vector<std::string>{key_.str()});
  near_cache* const near = on_.near();
  if (near == nullptr) return;
  if (machine.asks_for_value()) {
    ticket_ = near->begin(key_);
    ticket_->tracked = on_.undelivered().concerning(key_) == 0;  // after the ticket: what is queued later evicts
  }
  if (ticket_ && machine.asks_for_tags()) near->begin_tags(*ticket_, key_, machine.header()->tags);
}

/// What was asked for of stamps, by the ticket's request.
void fetch_session::note_near(bool stamp, bool tags) {
  if (!ticket_ || !ticket_->tracked) return;
  if (stamp && machine.stamp() && !machine.redis_failed()) on_.near()->note_stamp(*ticket_, key_, *machine.stamp());
  if (tags && machine.header()) on_.near()->note_tags(*ticket_, key_, machine.header()->tags, machine.tags_now());
}

void fetch_session::unanswered(const error& why) {
  writing_.reset();
  // The lease may be taken later than this, and say of an old load that it is current.
  if (machine.asks_for_lease() && announced_) on_.under_way().leave(key_.str(), announced_);
  on_.count(machine.ends_load() ? cache_event::store_failure : cache_event::read_failure);
  step = machine.unanswered(why);
}

void fetch_session::decode() {
  const bool tracked = ticket_ && ticket_->tracked;
  value_ = tracked && !machine.absent() ? on_.near()->read_by_others(key_, *machine.header()) : nullptr;
  const bool kept = value_ != nullptr;
  if (!kept && !machine.absent()) value_ = on_.decode(machine.payload());
  const std::size_t size = machine.payload().size();
  step = machine.decoded(machine.absent() || value_ != nullptr);
  if (!tracked || kept || step != fetch_step::answer || !machine.looked_and_found()) return;
  on_.near()->keep(*ticket_, key_,
                   {.value = value_, .header = *machine.header(), .life = machine.fresh_for(), .payload = size});
}

void fetch_session::board() {
  if (announced_ && announced_->identity() == machine.identity()) {
    joined_ = announced_;
    step = machine.boarded(boarding::leads, clock::now());
    return;
  }
  std::string identity = machine.identity();
  if (machine.redis_failed()) identity += " since " + std::to_string(on_.undelivered().changes(key_));
  auto seat = on_.under_way().board(key_.str(), identity, machine.may_lead());
  boarding how = boarding::nobody;
  if (seat.leads) {
    how = boarding::leads;
  } else if (seat.joined) {
    how = may_follow(*seat.joined) ? boarding::follows : boarding::may_not_wait;
  }
  if (how == boarding::leads || how == boarding::follows) joined_ = std::move(seat.joined);
  if (how == boarding::leads && !may_leave()) joined_->lead();
  step = machine.boarded(how, clock::now());
  const bool waits = step == fetch_step::await_flight || step == fetch_step::await_wakeup;
  if (waits && !std::exchange(waited_, true)) on_.count(cache_event::wait);
}

void fetch_session::take_step(const any_loader& load) {
  switch (step) {
    case fetch_step::ask:
      try {
        on_.check_breaker();
        announce();
        answered(on_.send(by_, machine.requests()));
      } catch (const error& why) {
        unanswered(why);
      }
      break;
    case fetch_step::decode:
      decode();
      break;
    case fetch_step::board:
      board();
      break;
    case fetch_step::await_flight: {
      const led_load::wait_ends waiting;
      const bool ended = joined_->wait_until(machine.wait_until());
      step = ended ? machine.flight_ended(joined_->result().has_value()) : machine.waited();
      break;
    }
    case fetch_step::await_wakeup:
      if (!waiter_) waiter_.emplace(on_.waking(), machine.wakeup_channel());
      waiter_->wait_until(machine.wait_until());
      step = machine.woken(clock::now());
      break;
    case fetch_step::load:
      this->load(load);
      break;
    case fetch_step::answer:
    case fetch_step::give_up:
      break;
  }
}

task<void> fetch_session::async_ask() {
  std::optional<error> failed;
  try {
    on_.check_breaker();
    announce();
    auto sending = on_.async_send(by_, machine.requests());
    answers all = co_await std::move(sending);
    answered(std::move(all));
  } catch (const error& why) {
    failed.emplace(why);
  }
  if (failed) unanswered(*failed);
}

task<void> fetch_session::async_take_step(const any_async_loader& load) {
  switch (step) {
    case fetch_step::ask: {
      auto asking = async_ask();
      co_await std::move(asking);
      break;
    }
    case fetch_step::decode:
      decode();
      break;
    case fetch_step::board:
      board();
      break;
    case fetch_step::await_flight: {
      const led_load::await_ends waiting{who_ == fetcher::coroutine_inside ? inside_.get() : nullptr};
      std::stop_source wake;
      joined_->at_end(wake);
      auto pause = seam::pause(on_.redis(), machine.wait_until(), wake.get_token());
      const bool could_wait = co_await std::move(pause);
      if (joined_->ended()) {
        step = machine.flight_ended(joined_->result().has_value());
      } else if (could_wait) {
        step = machine.waited();
      } else {  // the client is closed: a load that it left behind would be waited for as little
        stay();
        step = machine.cannot_wait();
      }
      break;
    }
    case fetch_step::await_wakeup: {
      if (!waiter_) waiter_.emplace(on_.waking(), machine.wakeup_channel());
      auto pause = seam::pause(on_.redis(), machine.wait_until(), waiter_->next_wakeup());
      co_await std::move(pause);
      step = machine.woken(clock::now());
      break;
    }
    case fetch_step::load: {
      auto loading = async_load(load);
      co_await std::move(loading);
      break;
    }
    case fetch_step::answer:
    case fetch_step::give_up:
      break;
  }
}

/// A hit is an answer from Redis without waiting for anybody; a fetch that Redis did not answer is neither.
void fetch_session::count_end() noexcept {
  const bool from_redis = step == fetch_step::answer && machine.source() == fetch_source::redis;
  if (from_redis && !waited_) {
    on_.count(cache_event::hit);
    if (!value_) on_.count(cache_event::absent);
  } else if (!machine.redis_failed()) {
    on_.count(cache_event::miss);
  }
  if (step != fetch_step::answer || machine.source() != fetch_source::stale) return;
  on_.count(cache_event::stale);
  on_.tell(events::stale_served, tenant_);
}

void fetch_session::count_load() noexcept {
  if (machine.stored()) on_.count(cache_event::store);
  if (!machine.fenced()) return;
  on_.count(cache_event::fenced);
  on_.tell(events::load_fenced, tenant_, {.name = "milliseconds", .value = machine.took().count()});
}

/// What the leader of a flight gives to all who wait for it, and is counted by then. Where its loader failed they look
/// for themselves whether there is a stale copy.
void fetch_session::land_if_over() {
  if (!over() || landed_) return;
  count_load();
  const bool told = !fault_ && (machine.leads() || own_);
  land(told ? std::optional{result()} : std::nullopt, fault_);
}

fetched fetch_session::result() const {
  if (machine.source() == fetch_source::flight) return *joined_->result();
  fetched what{.value = value_,
               .from = source::computed,
               .stored = machine.stored(),
               .computed_at = machine.computed_at(),
               .failure = refusal_ ? refusal_ : machine.failure()};
  if (machine.source() == fetch_source::computed) return what;
  what.from = machine.source() == fetch_source::redis ? source::redis : source::stale;
  what.stored = true;
  return what;
}

void fetch_session::end_alone() {
  land_if_over();
  if (machine.restamp()) on_.note(*machine.restamp());
}

fetched fetch_session::end() {
  land_if_over();
  count_end();
  if (machine.restamp()) on_.note(*machine.restamp());
  if (step == fetch_step::give_up) {
    switch (machine.reason()) {
      case fetch_failure::loader:
        std::rethrow_exception(fault_);
      case fetch_failure::flight:
        std::rethrow_exception(joined_->fault());
      case fetch_failure::timeout:
        on_.count(cache_event::timeout);
        on_.tell(events::load_timeout, tenant_);
        throw timeout_error{errc::load_timeout, execution::not_sent,
                            key_.str() + ": its load takes longer than hard_timeout"};
      case fetch_failure::throttled:
        on_.count(cache_event::throttled);
        throw tenantry::load_failed{key_.str() + ": its load failed a moment ago", machine.time_left()};
    }
  }
  return result();
}

void fetch_session::looked(answers all) {
  const std::vector<reply>& replies = all.replies;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    if (!replies[i].is_error() || replies[i].error_text().starts_with("WRONGTYPE")) continue;
    throw server_error{machine.requests()[i].name(), replies[i].error_text()};
  }
  answered(std::move(all));
}

looked_up fetch_session::end_looking() {
  if (step == fetch_step::ask && machine.refreshing()) step = fetch_step::answer;  // fresh, if not for long
  count_end();
  if (step != fetch_step::answer) return {};
  return {.found = true,
          .what = {.value = value_, .from = source::redis, .stored = true, .computed_at = machine.computed_at()}};
}

}  // namespace tenantry::detail
