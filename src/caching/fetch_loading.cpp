// How a fetch calls a loader: as a thread, as a coroutine, and once for several fetches.

#include "caching/fetch_session.hpp"

#include <tenantry/detail/load_scope.hpp>
#include <tenantry/error.hpp>
#include <tenantry/executor.hpp>

#include <stdexcept>
#include <utility>

namespace tenantry::detail {

namespace {

using clock = std::chrono::steady_clock;

std::chrono::microseconds since(clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - begin);
}

}  // namespace

load_context fetch_session::context(bool holds_thread) {
  count_begin();
  std::function<any_value()> previous;
  if (machine.has_candidate()) {
    previous = [this, bytes = std::string{machine.payload()}] { return on_.decode(bytes); };
  }
  const bool tagged = on_.options().envelope == envelope::header;
  return load_access::make(
      std::make_shared<const load_chain>(load_chain{&on_, key_.str(), led(), holds_thread, inside_}),
      tagged ? std::optional{tenant_} : std::nullopt, over_.get_token(), std::move(previous));
}

void fetch_session::keep_lease(std::optional<lease_keeper::hold>& kept) {
  if (!machine.holds_lease()) return;
  kept.emplace(on_.keeper(), machine.lease_key(), machine.lease(), on_.options().lease_ttl,
               clock::now() + on_.options().load_timeout, over_);
}

void fetch_session::loaded(any_value made, load_context& said, std::chrono::microseconds took) {
  value_ = std::move(made);
  load_outcome outcome = on_.outcome_of(value_, said.chosen_ttl());
  outcome.took = took;
  outcome.tags = load_access::tags(said);
  if (outcome.storable && machine.holds_lease() && value_) {
    try {
      outcome.payload = on_.encode(key_, value_);
    } catch (const error& refusal) {
      refusal_ = std::make_shared<const error>(refusal);
      outcome.storable = false;
    }
  }
  step = machine.loaded(std::move(outcome));
}

void fetch_session::count_begin() noexcept {
  on_.count(cache_event::load);
  if (machine.refreshing()) on_.count(cache_event::refresh);
}

void fetch_session::uncount_begin() noexcept {
  on_.uncount(cache_event::load);
  if (machine.refreshing()) on_.uncount(cache_event::refresh);
}

void fetch_session::load_failed(std::exception_ptr what, bool begun) {
  if (begun) {
    on_.count(cache_event::load_failure);
    on_.tell_load_failed(tenant_, away_, what);
  }
  fault_ = std::move(what);
  step = machine.load_failed(!(away_ && on_.background().closed()));  // no other process is to suffer from that
}

void fetch_session::load(const any_loader& load) {
  load_context said = context(true);
  std::optional<lease_keeper::hold> kept;
  const auto begin = clock::now();
  any_value made;
  try {
    keep_lease(kept);
    lead_here();
    const load_scope scope{load_access::chain(said)};
    made = load(key_, said);
  } catch (...) {
    load_failed(std::current_exception());
    return;
  }
  loaded(std::move(made), said, since(begin));
}

task<void> fetch_session::async_load(const any_async_loader& load) {
  load_context said = context(holds_thread_);
  std::optional<lease_keeper::hold> kept;
  auto begin = clock::now();
  any_value made;
  std::exception_ptr failed;
  bool begun = true;
  try {
    keep_lease(kept);
    // Not where a thread waits for this coroutine: the executor may have no other.
    if (away_ || (who_ == fetcher::coroutine_inside && !holds_thread_ && on_.options().executor)) {
      auto moving = resume_on(on_.options().executor);
      co_await std::move(moving);
      begun = !stopped();
      check_not_stopped();
      begin = clock::now();
    }
    lead_here();
    auto loading = load(key_, said);
    made = co_await std::move(loading);
  } catch (...) {
    failed = std::current_exception();
  }
  kept.reset();
  if (failed) {
    if (!begun) uncount_begin();
    load_failed(std::move(failed), begun);
  } else {
    loaded(std::move(made), said, since(begin));
  }
}

void fetch_session::load_together(cache_state& on, std::span<fetch_session* const> all, const any_batch_loader& load) {
  std::vector<std::optional<lease_keeper::hold>> kept(all.size());
  std::vector<key> keys;
  keys.reserve(all.size());
  for (fetch_session* each : all) {
    each->count_begin();
    each->lead_here();
    keys.push_back(each->key_);
  }
  const bool tagged = on.options().envelope == envelope::header;
  const auto& inside = all.front()->inside_;
  load_context said = load_access::make(std::make_shared<const load_chain>(load_chain{&on, {}, nullptr, true, inside}),
                                        tagged ? std::optional{all.front()->tenant_} : std::nullopt,
                                        all.front()->over_.get_token(), {});
  const auto begin = clock::now();
  std::vector<any_value> made;
  try {
    for (std::size_t i = 0; i < all.size(); ++i) all[i]->keep_lease(kept[i]);
    const load_scope scope{load_access::chain(said)};
    made = load(keys, said);
    if (made.size() != keys.size()) throw std::length_error{"a batch loader gives a value for each key"};
  } catch (...) {
    for (fetch_session* each : all) each->load_failed(std::current_exception());
    return;
  }
  const auto took = since(begin);
  const auto tags = load_access::tags(said);
  for (std::size_t i = 0; i < all.size(); ++i) {
    load_context own = said;
    load_access::tag(own, tags);
    all[i]->loaded(std::move(made[i]), own, took);
  }
}

}  // namespace tenantry::detail
