#include "messaging/feed.hpp"

#include "messaging/topic_hub.hpp"

#include <tenantry/error.hpp>
#include <tenantry/observer.hpp>

#include <utility>
#include <variant>
#include <vector>

namespace tenantry::detail {

namespace {

using clock = std::chrono::steady_clock;

}  // namespace

feed::feed(std::shared_ptr<topic_hub> hub, const subscription_options& how)
    : queue_{how.capacity, how.capacity_bytes, how.overflow}, hub_{std::move(hub)} {}

/// With the lock held.
std::optional<feed_item> feed::take() {
  auto item = queue_.pop();
  empty_.store(queue_.empty(), std::memory_order_release);
  if (!item) return item;
  if (const auto* const came = std::get_if<published_ref>(&*item); came != nullptr && (*came)->timed) {
    const auto took = clock::now() - (*came)->received;
    queue_.count_time(took);
    hub_->times().record(took);
  }
  return item;
}

/// In the child of a fork all that is left of it is its end.
std::optional<feed_item> feed::end_in_child() {
  if (over_in_child_.exchange(true)) return std::nullopt;
  return closed{
      .cause = closed_cause::stopped,
      .why = std::make_shared<const error>(errc::forked, execution::not_sent,
                                           "the process was forked; the child needs a subscriber of its own")};
}

/// Everyone looks again. Coroutines are only marked as ready here: none runs on this thread.
void feed::notify(std::unique_lock<std::mutex> held) {
  empty_.store(queue_.empty(), std::memory_order_release);
  const bool somebody = waiting_ > 0;
  std::vector<std::stop_source> coroutines;
  coroutines.swap(wake_);
  held.unlock();
  if (somebody) changed_.notify_all();
  for (const std::stop_source& each : coroutines) each.request_stop();
}

std::optional<feed_item> feed::next(time_point limit, const std::stop_token& stop) {
  if (hub_->forked()) return end_in_child();
  if (limit == no_wait && empty_.load(std::memory_order_acquire)) return std::nullopt;
  const auto look_again = [this] {
    const std::lock_guard held{mutex_};
    changed_.notify_all();
  };
  std::optional<std::stop_callback<decltype(look_again)>> on_stop;
  if (stop.stop_possible()) on_stop.emplace(stop, look_again);
  std::unique_lock held{mutex_};
  for (;;) {
    if (auto item = take()) return item;
    if (limit == no_wait || queue_.over() || stop.stop_requested() || clock::now() >= limit) return std::nullopt;
    ++waiting_;
    if (limit == time_point::max()) {
      changed_.wait(held);
    } else {
      changed_.wait_until(held, limit);
    }
    --waiting_;
  }
}

std::stop_token feed::changed() {
  const std::lock_guard held{mutex_};
  return wake_.emplace_back().get_token();
}

task<std::optional<feed_item>> feed::async_next(std::shared_ptr<feed> self, time_point limit, std::stop_token stop) {
  if (self->hub_->forked()) co_return self->end_in_child();
  for (;;) {
    std::stop_source wake{std::nostopstate};
    {
      const std::lock_guard held{self->mutex_};
      if (auto item = self->take()) co_return item;
      if (self->queue_.over()) co_return std::nullopt;
      wake = self->wake_.emplace_back();
    }
    if (!stop.stop_requested() && clock::now() < limit) {
      const auto also = [&wake] { wake.request_stop(); };
      const std::stop_callback on_stop{stop, also};
      auto waiting = seam::idle(self->hub_->redis(), limit, wake.get_token());
      const bool open = co_await std::move(waiting);
      if (!open) self->client_closed();
    }
    if (!stop.stop_requested() && clock::now() < limit) continue;
    self->forget(wake);
    co_return std::nullopt;
  }
}

/// Coroutines cannot wait any more.
void feed::client_closed() {
  hub_->leave(*this);
  end({.cause = closed_cause::stopped,
       .why = std::make_shared<const error>(errc::closed, execution::not_sent, "the client was closed")});
}

/// Whoever gave up is not woken any more.
void feed::forget(const std::stop_source& wake) {
  const std::lock_guard held{mutex_};
  std::erase(wake_, wake);
}

void feed::drop(std::shared_ptr<feed> last) noexcept {
  last->unsubscribe();
  // The fork may have met a change of the queue half done: it stays as it is.
  if (feed* const self = last.get(); self->hub_->forked()) self->kept_ = std::move(last);
}

void feed::unsubscribe() noexcept {
  if (hub_->forked()) {
    over_in_child_ = true;
    return;
  }
  hub_->leave(*this);
  std::unique_lock held{mutex_};
  queue_.clear();
  notify(std::move(held));
}

subscription_counters feed::counters() const {
  if (hub_->forked()) return {};
  const std::lock_guard held{mutex_};
  return queue_.counters();
}

void feed::undecodable(const published_ref& what, std::string_view why) {
  if (hub_->forked()) return;
  bool tell = false;
  {
    const std::lock_guard held{mutex_};
    queue_.count_undecodable();
    tell = clock::now() >= next_report_;
    if (tell) next_report_ = clock::now() + std::chrono::seconds{1};
  }
  if (!tell || !hub_->has_client()) return;
  seam::notify(hub_->redis(), events::decode_error,
               {{.name = "channel", .value = std::string_view{what->channel}},
                {.name = "bytes", .value = static_cast<std::int64_t>(what->payload.size())},
                {.name = "detail", .value = why}});
}

feed::state feed::wait_settled(time_point limit) {
  std::unique_lock held{mutex_};
  ++waiting_;
  changed_.wait_until(held, limit, [this] { return state_ != state::pending; });
  --waiting_;
  return state_;
}

feed::state feed::settled(std::shared_ptr<const error>& why) const {
  const std::lock_guard held{mutex_};
  why = why_;
  return state_;
}

feed::outcome feed::deliver(published* counted) {
  std::unique_lock held{mutex_};
  const std::uint64_t dropped = queue_.dropped();
  const bool goes_on = queue_.push(counted);
  const outcome what = !goes_on ? outcome::ended : queue_.dropped() == dropped ? outcome::kept : outcome::dropped;
  if (waiting_ > 0 || !wake_.empty()) {
    notify(std::move(held));
  } else {
    empty_.store(false, std::memory_order_release);
  }
  return what;
}

void feed::activate() {
  active = begun = true;
  std::unique_lock held{mutex_};
  if (state_ == state::pending) state_ = state::active;
  notify(std::move(held));
}

void feed::tell(const gap& missed) {
  std::unique_lock held{mutex_};
  queue_.add(missed);
  notify(std::move(held));
}

void feed::end(closed how) {
  std::unique_lock held{mutex_};
  if (state_ == state::pending) {
    state_ = state::refused;
    why_ = how.why;
  }
  queue_.close(std::move(how));
  notify(std::move(held));
}

}  // namespace tenantry::detail
