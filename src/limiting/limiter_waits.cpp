// Waiting to be admitted, as a thread and as a coroutine.

#include "engine/seam.hpp"
#include "limiting/limiter_state.hpp"

#include <tenantry/error.hpp>

#include <algorithm>
#include <utility>

namespace tenantry::detail {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

/// What fail_closed denies is asked for again after this.
constexpr auto pause_without_redis = 100ms;

clock::time_point after(clock::time_point now, std::chrono::milliseconds span) {
  const auto most = std::chrono::floor<std::chrono::milliseconds>(clock::time_point::max() - now);
  return span < most ? now + std::max(span, 0ms) : clock::time_point::max();
}

/// When to ask again; nothing when that is of no use.
std::optional<clock::time_point> next_attempt(const decision& last, clock::time_point now, clock::time_point deadline,
                                              const limiter_options& how) {
  if (last.allowed || !last.retry_after) return std::nullopt;
  if (last.source == decision_source::fail_closed) {
    const bool for_good = last.failure->code() == errc::closed || last.failure->code() == errc::forked;
    if (for_good || now >= deadline) return std::nullopt;
    return std::min(now + pause_without_redis, deadline);
  }
  const auto then = now + std::max(*last.retry_after, 1ms);
  if (then > deadline) return std::nullopt;
  // Another process may give something back.
  return std::min(then, after(now, how.denial_cache.value_or(denial_cache_options{}).max_age));
}

/// Of one who waited in vain, which is no decision of Redis about this request.
decision denied(decision figures, std::uint64_t cost) {
  figures.allowed = false;
  figures.granted = 0;
  figures.cost = cost;
  if (figures.retry_after) figures.retry_after = std::max(*figures.retry_after, 1ms);
  return figures;
}

decision cancelled(decision last, std::uint64_t cost) {
  last = denied(std::move(last), cost);
  last.failure = std::make_shared<const error>(errc::cancelled, execution::not_sent, "the stop_token was triggered");
  return last;
}

}  // namespace

decision limiter_state::wait(const tenant_id& tenant, std::string_view path, std::chrono::milliseconds at_most,
                             std::uint64_t cost, const std::stop_token& stop) {
  if (auto decided = in_child(limit_operation::take, cost)) return *std::move(decided);
  const auto deadline = after(clock::now(), at_most);
  wait_lines::place mine{lines_, {tenant, path}};
  while (!mine.first()) {
    if (stop.stop_requested()) return cancelled({}, cost);
    if (clock::now() >= deadline) return denied(ask(limit_operation::peek, tenant, path, cost), cost);
    mine.wait_until(deadline, stop);
  }
  for (;;) {
    if (stop.stop_requested()) return cancelled({}, cost);
    decision last = acquire(tenant, path, cost);
    const auto then = next_attempt(last, clock::now(), deadline, how_);
    if (!then) return last;
    mine.wait_until(*then, stop);
    if (stop.stop_requested()) return cancelled(std::move(last), cost);
  }
}

task<decision> limiter_state::async_wait(tenant_id tenant, std::string path, std::chrono::milliseconds at_most,
                                         std::uint64_t cost, std::stop_token stop) {
  if (auto decided = in_child(limit_operation::take, cost)) co_return *std::move(decided);
  const auto deadline = after(clock::now(), at_most);
  wait_lines::place mine{lines_, {tenant, path}};
  std::optional<decision> last;
  for (;;) {
    auto until = deadline;
    if (stop.stop_requested()) co_return cancelled(last ? std::move(*last) : decision{}, cost);
    if (mine.first()) {
      auto asked = async_acquire(tenant, path, cost);
      last.emplace(co_await std::move(asked));
      const auto then = next_attempt(*last, clock::now(), deadline, how_);
      if (!then) co_return std::move(*last);
      until = *then;
    } else if (clock::now() >= deadline) {
      auto asked = async_ask(limit_operation::peek, tenant, path, cost);
      decision figures = co_await std::move(asked);
      co_return denied(std::move(figures), cost);
    }
    std::stop_source wake = mine.next_wakeup();
    const auto also = [&wake] { wake.request_stop(); };
    const std::stop_callback on_stop{stop, also};
    auto pausing = seam::pause(redis_, until, wake.get_token());
    const bool open = co_await std::move(pausing);
    if (!open && !stop.stop_requested()) {  // the client cannot wait any more
      auto asked = async_acquire(tenant, path, cost);
      decision made = co_await std::move(asked);
      co_return made;
    }
  }
}

}  // namespace tenantry::detail
