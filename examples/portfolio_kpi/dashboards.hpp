#pragma once
// Many dashboards at once: they ask, judge what they were shown, and measure.

#include "portfolio.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace buildings {

/// What a tenant's dashboards may show while its data changes.
///
/// A change is announced before it is written and confirmed when its invalidation has returned. Between the two the
/// figures before and after it are both right; whoever asks later must be shown the new ones.
/// Threads: safe.
class truth {
 public:
  explicit truth(portfolio_kpi first) : versions_{std::move(first)} {}

  /// The oldest version that may be shown to someone who asks from now on.
  [[nodiscard]] std::size_t oldest() const;
  /// Whether someone who asked when `oldest` was this may be shown these figures now.
  [[nodiscard]] bool allows(const portfolio_kpi& shown, std::size_t oldest) const;

  void announce(portfolio_kpi next);
  void confirm();

 private:
  mutable std::mutex mutex_;
  std::vector<portfolio_kpi> versions_;
  std::size_t oldest_ = 0;
};

/// The figures that a dashboard is shown, and whether a cache had them.
struct shown {
  portfolio_kpi figures;
  bool from_cache = false;
};

/// How a dashboard gets the figures of a tenant, given by its index.
using way_to_ask = std::function<shown(std::size_t tenant)>;

struct statistics {
  std::uint64_t requests = 0;
  std::uint64_t from_cache = 0;
  std::uint64_t wrong = 0;
  std::chrono::nanoseconds elapsed{};
  std::vector<std::chrono::nanoseconds> latencies;

  statistics& operator+=(const statistics& more);
  /// The latency that this fraction of the requests did not exceed.
  [[nodiscard]] std::chrono::nanoseconds percentile(double fraction) const;
};

struct visit {
  std::size_t dashboards = 200;
  /// Between an answer and the next question of a dashboard: half of it to one and a half times as much, at random. A
  /// person looks for seconds; this is short enough to be a load, and long enough that what is measured is the answer
  /// and not 200 threads in the queue for a processor.
  std::chrono::milliseconds think_time{20};
  /// A dashboard stops when this time is over, but never before it has asked so many times.
  std::chrono::milliseconds at_least{0};
  std::size_t refreshes_at_least = 1;
};

/// Called now and then, on the thread that called `open_dashboards`, until the dashboards are closed.
using meanwhile = std::function<void(std::chrono::milliseconds elapsed, std::uint64_t requests)>;

/// Opens the dashboards at the same moment, each a thread, and returns when all are closed. Each of them shows one
/// tenant. Errors: the first one that asking threw; what watching threw.
[[nodiscard]] statistics open_dashboards(const visit& how, const std::deque<truth>& tenants, const way_to_ask& ask,
                                         const meanwhile& watch = {});

}  // namespace buildings
