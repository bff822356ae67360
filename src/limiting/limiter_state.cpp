#include "limiting/limiter_state.hpp"

#include "engine/seam.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;

limiter_options checked(limiter_options how, const limit_rules& rules) {
  if (how.timeout < 1ms) throw invalid_option{"limiter_options.timeout is less than 1 ms"};
  if (how.grants) static_cast<void>(rules.most_ahead(*how.grants));
  how.timeout = std::min<std::chrono::milliseconds>(how.timeout, std::chrono::days{366});  // no_timeout, as a time
  return how;
}

/// What the scripts cannot count is more than any limit.
std::uint64_t countable(std::uint64_t cost) noexcept { return std::min(cost, too_many_units); }

/// Nothing, and less where others may have taken it, cannot be known to be given back.
bool gives_back(limit_operation what) noexcept { return what == limit_operation::refund; }

reply run(const caller& by, const limit_rules& rules, const std::string& key, const limit_question& question) {
  const std::array<std::string_view, 1> keys{key};
  const std::vector<std::string> words = rules.arguments(question);
  std::array<std::string_view, 4 + 2 * most_limits> arguments;
  std::ranges::copy(words, arguments.begin());
  return by.eval(rules.which(), keys, std::span{arguments.data(), words.size()});
}

task<reply> async_run(caller by, const limit_rules& rules, std::string key, limit_question question) {
  std::vector<std::string> keys;
  keys.push_back(std::move(key));
  auto asked = by.async_eval(rules.which(), std::move(keys), rules.arguments(question));
  reply answer = co_await std::move(asked);
  co_return answer;
}

}  // namespace

limiter_state::limiter_state(const client& redis, on_failure if_away, limit_rules rules, const limiter_options& how)
    : redis_{redis},
      if_away_{if_away},
      how_{checked(how, rules)},
      forks_{fork_count()},
      now_{rules_.emplace_back(std::make_unique<const limit_rules>(std::move(rules))).get()} {
  if (how_.denial_cache) memory_.denials.emplace(*how_.denial_cache);
  if (how_.grants) memory_.ahead.emplace(*how_.grants);
}

bool limiter_state::forked() const noexcept { return fork_count() != forks_; }

void limiter_state::set_limits(std::vector<rate_limit> limits) {
  seam::check_not_forked(redis_);
  {
    const std::lock_guard held{mutex_};
    auto next = std::make_unique<const limit_rules>(rules().with(std::move(limits)));
    static_cast<void>(checked(how_, *next));
    rules_.push_back(std::move(next));
    now_.store(rules_.back().get(), std::memory_order_release);
  }
  lines_.stir_all();
}

/// What Redis may have counted is not sent again.
caller limiter_state::through(const tenant_id& tenant, clock::time_point deadline) const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now());
  return redis_.with({.timeout = std::max(left, 1ms), .retry = retry::never, .tenant = &tenant});
}

decision limiter_state::count(decision made) noexcept {
  counts& of = counts_[static_cast<std::size_t>(made.source)];
  (made.allowed ? of.allowed : of.denied).fetch_add(1, std::memory_order_relaxed);
  return made;
}

limiter_counters limiter_state::counters() const noexcept {
  const auto of = [this](decision_source who) {
    const counts& those = counts_[static_cast<std::size_t>(who)];
    return source_counters{.allowed = those.allowed.load(std::memory_order_relaxed),
                           .denied = those.denied.load(std::memory_order_relaxed)};
  };
  return {.redis = of(decision_source::redis),
          .denial_cache = of(decision_source::denial_cache),
          .grant = of(decision_source::grant),
          .insurance = of(decision_source::insurance),
          .fail_open = of(decision_source::fail_open),
          .fail_closed = of(decision_source::fail_closed)};
}

std::optional<decision> limiter_state::in_child(limit_operation what, std::uint64_t units) {
  if (!forked()) return std::nullopt;
  try {
    seam::check_not_forked(redis_);
  } catch (const error& why) {
    return count(uncounted(what, countable(units), std::make_shared<const error>(why)));
  }
  return std::nullopt;
}

/// By the policy alone; insurance, which has to count, denies.
decision limiter_state::uncounted(limit_operation what, std::uint64_t cost, std::shared_ptr<const error> why) const {
  decision made;
  made.cost = cost;
  made.source = if_away_.source();
  made.allowed = made.source == decision_source::fail_open || gives_back(what);
  made.granted = made.allowed && !gives_back(what) ? cost : 0;
  if (!made.allowed) made.retry_after = 1s;
  made.failure = std::move(why);
  return made;
}

decision limiter_state::without_redis(const limit_rules& by, limit_operation what, const limited_view& name,
                                      std::uint64_t cost, std::shared_ptr<const error> why) {
  if (if_away_.source() != decision_source::insurance) return uncounted(what, cost, std::move(why));
  const auto share = local_limits::share_of(by.limits(), if_away_.instances());
  decision made = local_.decide(what, name, cost, share, clock::now());
  if (gives_back(what)) lines_.stir(name);
  made.failure = std::move(why);
  return made;
}

std::optional<decision> limiter_state::known(limit_operation what, const limited_view& name, std::uint64_t cost,
                                             const limit_rules& by) {
  const bool takes = what == limit_operation::take || what == limit_operation::most;
  if (!takes || cost == 0) return std::nullopt;
  if (by.admit_nothing()) {
    limit_answer never;
    for (limit_figures& each : never.of) each.retry = std::chrono::microseconds{-1};
    return by.decide(what, cost, never, {.source = decision_source::denial_cache});
  }
  const auto now = clock::now();
  if (memory_.ahead && what == limit_operation::take) {
    if (auto granted = memory_.ahead->use(name, cost, by, now)) return granted;
  }
  if (memory_.denials) return memory_.denials->find(name, what, cost, by, now);
  return std::nullopt;
}

decision limiter_state::end_of(const acquisition& mine, const limited_view& name, std::uint64_t cost,
                               const limit_rules& by) {
  if (auto decided = mine.result(clock::now())) return std::move(*decided);
  return without_redis(by, limit_operation::take, name, cost, mine.failure());
}

decision limiter_state::acquire(const tenant_id& tenant, std::string_view path, std::uint64_t units) {
  if (auto decided = in_child(limit_operation::take, units)) return *std::move(decided);
  const std::uint64_t cost = countable(units);
  if (cost == 0) return ask(limit_operation::take, tenant, path, cost);
  const limit_rules& by = rules();
  const limited_view name{tenant, path};
  if (auto decided = known(limit_operation::take, name, cost, by)) return count(std::move(*decided));
  const auto deadline = clock::now() + how_.timeout;
  acquisition mine{memory_, name, cost, by};
  for (;;) {
    switch (mine.next(clock::now(), deadline)) {
      case acquisition::step::ask:
        try {
          seam::check_breaker(redis_);
          const std::string key = by.key(name);
          const limit_question question = mine.question(clock::now());
          const limit_answer answer = by.read(run(through(tenant, deadline), by, key, question));
          mine.answered(answer, clock::now());
        } catch (const error& why) {
          mine.failed(why, clock::now());
        }
        break;
      case acquisition::step::wait:
        memory_.together.sleep_until(mine.request(), deadline);
        break;
      case acquisition::step::done:
        return count(end_of(mine, name, cost, by));
    }
  }
}

task<decision> limiter_state::async_acquire(tenant_id tenant, std::string path, std::uint64_t units) {
  if (auto decided = in_child(limit_operation::take, units)) co_return *std::move(decided);
  const std::uint64_t cost = countable(units);
  const limit_rules& by = rules();
  const limited_view name{tenant, path};
  if (cost == 0) {
    auto asked = async_ask(limit_operation::take, tenant, path, cost);
    decision made = co_await std::move(asked);
    co_return made;
  }
  if (auto decided = known(limit_operation::take, name, cost, by)) co_return count(std::move(*decided));
  const auto deadline = clock::now() + how_.timeout;
  acquisition mine{memory_, name, cost, by};
  bool closed = false;
  for (;;) {
    switch (mine.next(clock::now(), deadline, closed)) {
      case acquisition::step::ask: {
        std::optional<error> failed;
        try {
          seam::check_breaker(redis_);
          const limit_question question = mine.question(clock::now());
          auto asked = async_run(through(tenant, deadline), by, by.key(name), question);
          const reply from = co_await std::move(asked);
          mine.answered(by.read(from), clock::now());
        } catch (const error& why) {
          failed.emplace(why);
        }
        if (failed) mine.failed(*failed, clock::now());
        break;
      }
      case acquisition::step::wait: {
        auto waiting = seam::pause(redis_, deadline, memory_.together.changed(mine.request()));
        const bool open = co_await std::move(waiting);
        closed = !open;
        break;
      }
      case acquisition::step::done:
        co_return count(end_of(mine, name, cost, by));
    }
  }
}

decision limiter_state::told(limit_operation what, const limited_view& name, std::uint64_t cost, const limit_rules& by,
                             const reply& from, clock::time_point sent, std::uint64_t changes) {
  const limit_answer answer = by.read(from);
  if (gives_back(what)) {
    memory_.forget_denials(name);
    lines_.stir(name);
  }
  decision made = by.decide(what, cost, answer, {.granted = answer.granted});
  if (what == limit_operation::most && made.granted > 0 && memory_.denials) memory_.denials->drop(name);
  if (what == limit_operation::most && !made.allowed && memory_.denials) {
    memory_.denials->add(name, 1, by, answer, sent, clock::now(), changes);
  }
  return made;
}

decision limiter_state::ask(limit_operation what, const tenant_id& tenant, std::string_view path, std::uint64_t units) {
  if (auto decided = in_child(what, units)) return *std::move(decided);
  const std::uint64_t cost = countable(units);
  const limit_rules& by = rules();
  const limited_view name{tenant, path};
  if (auto decided = known(what, name, cost, by)) return count(std::move(*decided));
  const auto sent = clock::now();
  const std::uint64_t changes = memory_.denials ? memory_.denials->changes(name) : 0;
  try {
    seam::check_breaker(redis_);
    const reply from = run(through(tenant, sent + how_.timeout), by, by.key(name), {.what = what, .cost = cost});
    return count(told(what, name, cost, by, from, sent, changes));
  } catch (const error& why) {
    return count(without_redis(by, what, name, cost, std::make_shared<const error>(why)));
  }
}

task<decision> limiter_state::async_ask(limit_operation what, tenant_id tenant, std::string path, std::uint64_t units) {
  if (auto decided = in_child(what, units)) co_return *std::move(decided);
  const std::uint64_t cost = countable(units);
  const limit_rules& by = rules();
  const limited_view name{tenant, path};
  if (auto decided = known(what, name, cost, by)) co_return count(std::move(*decided));
  const auto sent = clock::now();
  const std::uint64_t changes = memory_.denials ? memory_.denials->changes(name) : 0;
  std::shared_ptr<const error> failed;
  try {
    seam::check_breaker(redis_);
    const limit_question question{.what = what, .cost = cost};
    auto asked = async_run(through(tenant, sent + how_.timeout), by, by.key(name), question);
    const reply from = co_await std::move(asked);
    co_return count(told(what, name, cost, by, from, sent, changes));
  } catch (const error& why) {
    failed = std::make_shared<const error>(why);
  }
  co_return count(without_redis(by, what, name, cost, std::move(failed)));
}

void limiter_state::reset(const tenant_id& tenant, std::string_view path) {
  seam::check_not_forked(redis_);
  const limited_view name{tenant, path};
  local_.forget(name);
  memory_.forget(name);  // also where it is not known what became of the command
  redis_.with({.timeout = how_.timeout, .retry = retry::idempotent, .tenant = &tenant})
      .execute("UNLINK", rules().key(name));
  memory_.forget(name);
  lines_.stir(name);
}

task<void> limiter_state::async_reset(tenant_id tenant, std::string path) {
  seam::check_not_forked(redis_);
  const limited_view name{tenant, path};
  local_.forget(name);
  memory_.forget(name);
  const caller by = redis_.with({.timeout = how_.timeout, .retry = retry::idempotent, .tenant = &tenant});
  auto sent = by.async_execute("UNLINK", rules().key(name));
  co_await std::move(sent);
  memory_.forget(name);
  lines_.stir(name);
}

}  // namespace tenantry::detail
