#include "engine/seam.hpp"
#include "messaging/feed.hpp"
#include "messaging/topic_hub.hpp"

#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/subscriber.hpp>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace tenantry {

namespace detail {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

const subscription_options& checked(const subscription_options& how) {
  if (how.capacity == 0) throw invalid_option{"subscription_options.capacity is 0"};
  if (how.capacity_bytes == 0) throw invalid_option{"subscription_options.capacity_bytes is 0"};
  if (how.timeout < 1ms) throw invalid_option{"subscription_options.timeout is less than 1 ms"};
  return how;
}

const subscriber_options& checked(const subscriber_options& how) {
  if (how.connections == 0 || how.connections > 64)
    throw invalid_option{"subscriber_options.connections is not from 1 to 64"};
  if (how.heartbeat < 1ms) throw invalid_option{"subscriber_options.heartbeat is less than 1 ms"};
  if (how.heartbeat_timeout < 1ms) throw invalid_option{"subscriber_options.heartbeat_timeout is less than 1 ms"};
  if (how.probe && how.probe->interval < 1ms) {
    throw invalid_option{"subscriber_options.probe.interval is less than 1 ms"};
  }
  if (how.probe && how.probe->timeout < 1ms) {
    throw invalid_option{"subscriber_options.probe.timeout is less than 1 ms"};
  }
  return how;
}

push_kind kind_of(const channel&, const subscription_options& how) noexcept {
  return how.scope == channel_scope::shard ? push_kind::shard : push_kind::channel;
}
push_kind kind_of(const channel_pattern&, const subscription_options& how) {
  if (how.scope == channel_scope::shard) {
    throw invalid_option{"subscription_options.scope is shard: there are no patterns of shard channels"};
  }
  return push_kind::pattern;
}

clock::time_point limit_of(std::chrono::milliseconds timeout) {
  const auto now = clock::now();
  return timeout < clock::time_point::max() - now ? now + timeout : clock::time_point::max();
}

}  // namespace

class subscriber_state {
 public:
  subscriber_state(const client& redis, const subscriber_options& how) : redis_{redis} {
    for (unsigned i = 0; i < checked(how).connections; ++i)
      hubs_.push_back(std::make_shared<topic_hub>(redis, how, times_));
  }
  subscriber_state(const subscriber_state&) = delete;
  subscriber_state& operator=(const subscriber_state&) = delete;
  ~subscriber_state() { stop(); }

  /// A coroutine that still subscribes keeps this object, but nothing that it listens to.
  void stop() {
    for (const auto& each : hubs_) each->stop();
  }

  template <class Name>
  std::shared_ptr<feed> join(const Name& to, const subscription_options& how) {
    seam::check_open(redis_);
    const push_kind kind = kind_of(to, how);
    const tenant_id tenant = to.tenant();
    const auto& hub = hub_of(tenant);
    auto one = std::make_shared<feed>(hub, checked(how));
    hub->join(*one, kind, to.str(), tenant);
    return one;
  }

  /// Takes it, or throws why it is none.
  template <class Name>
  feed_core result(std::shared_ptr<feed> one, const Name& to) {
    std::shared_ptr<const error> why;
    const feed::state how = one->settled(why);
    const tenant_id tenant = to.tenant();
    if (how == feed::state::active) {
      seam::notify(redis_, events::subscribed,
                   {{.name = "tenant", .value = std::string_view{tenant.str()}},
                    {.name = "channel", .value = std::string_view{to.str()}}});
      return feed_core{std::move(one)};
    }
    one->unsubscribe();
    if (const auto* const refused = dynamic_cast<const server_error*>(why.get())) throw server_error{*refused};
    if (why) throw connection_error{why->code(), why->execution(), why->what()};
    const std::string trouble = hub_of(tenant)->trouble();
    throw timeout_error{errc::timeout, execution::unknown,
                        "the subscription was not confirmed in time" + (trouble.empty() ? "" : ": " + trouble)};
  }

  template <class Name>
  feed_core listen(const Name& to, const subscription_options& how) {
    auto one = join(to, how);
    one->wait_settled(limit_of(how.timeout));
    return result(std::move(one), to);
  }

  template <class Name>
  static task<feed_core> async_listen(std::shared_ptr<subscriber_state> self, Name to, subscription_options how) {
    auto one = self->join(to, how);
    const auto limit = limit_of(how.timeout);
    for (;;) {
      const std::stop_token changed = one->changed();
      std::shared_ptr<const error> why;
      if (one->settled(why) != feed::state::pending || clock::now() >= limit) break;
      auto pausing = seam::pause(self->redis_, limit, changed);
      const bool open = co_await std::move(pausing);
      if (!open) break;
    }
    co_return self->result(std::move(one), to);
  }

  [[nodiscard]] subscriber_counters counters() const {
    subscriber_counters all;
    for (const auto& each : hubs_) each->add_to(all);
    all.time_in_queue = times_->snapshot();
    return all;
  }

 private:
  [[nodiscard]] const std::shared_ptr<topic_hub>& hub_of(const tenant_id& tenant) const {
    return hubs_[std::hash<tenant_id>{}(tenant) % hubs_.size()];
  }

  const client& redis_;
  const std::shared_ptr<histogram_recorder> times_ = std::make_shared<histogram_recorder>();
  std::vector<std::shared_ptr<topic_hub>> hubs_;
};

feed_core::feed_core(std::shared_ptr<feed> mine) noexcept : feed_{std::move(mine)} {}
feed_core::feed_core(feed_core&&) noexcept = default;
feed_core& feed_core::operator=(feed_core&& from) noexcept {
  if (feed_ && feed_ != from.feed_) feed::drop(std::move(feed_));
  feed_ = std::move(from.feed_);
  return *this;
}
feed_core::~feed_core() {
  if (feed_) feed::drop(std::move(feed_));
}

std::optional<feed_item> feed_core::next(time_point limit, const std::stop_token& stop) {
  return feed_->next(limit, stop);
}
task<std::optional<feed_item>> feed_core::async_next(time_point limit, std::stop_token stop) {
  return feed::async_next(feed_, limit, std::move(stop));
}
void feed_core::unsubscribe() noexcept { feed_->unsubscribe(); }
subscription_counters feed_core::counters() const { return feed_->counters(); }
void feed_core::undecodable(const published_ref& what, std::string_view why) { feed_->undecodable(what, why); }

}  // namespace detail

std::string_view to_string(gap_cause cause) noexcept {
  switch (cause) {
    case gap_cause::connection_lost:
      return "connection_lost";
    case gap_cause::server_unsubscribed:
      return "server_unsubscribed";
    case gap_cause::probe_failed:
      return "probe_failed";
    case gap_cause::trimmed:
      return "trimmed";
    case gap_cause::reset:
      return "reset";
    case gap_cause::too_far:
      return "too_far";
    case gap_cause::invalid_id:
      return "invalid_id";
  }
  return "unknown";
}

std::string_view to_string(closed_cause cause) noexcept {
  switch (cause) {
    case closed_cause::slow:
      return "slow";
    case closed_cause::refused:
      return "refused";
    case closed_cause::stopped:
      return "stopped";
  }
  return "unknown";
}

subscriber::subscriber(const client& redis, const subscriber_options& how)
    : state_{std::make_shared<detail::subscriber_state>(redis, how)} {}
subscriber::~subscriber() { state_->stop(); }

detail::feed_core subscriber::listen(const channel& to, const subscription_options& how) {
  return state_->listen(to, how);
}
detail::feed_core subscriber::listen(const channel_pattern& to, const subscription_options& how) {
  return state_->listen(to, how);
}
task<detail::feed_core> subscriber::async_listen(channel to, subscription_options how) {
  return detail::subscriber_state::async_listen(state_, std::move(to), how);
}
task<detail::feed_core> subscriber::async_listen(channel_pattern to, subscription_options how) {
  return detail::subscriber_state::async_listen(state_, std::move(to), how);
}

subscriber_counters subscriber::counters() const { return state_->counters(); }

}  // namespace tenantry
