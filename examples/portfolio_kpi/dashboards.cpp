#include "dashboards.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <latch>
#include <random>
#include <thread>
#include <utility>

namespace buildings {

namespace {

using clock = std::chrono::steady_clock;

/// What all dashboards have in common.
struct wall {
  wall(const visit& visit, const std::deque<truth>& truths, const way_to_ask& way)
      : how{visit}, tenants{truths}, ask{way} {}

  const visit& how;
  const std::deque<truth>& tenants;
  const way_to_ask& ask;
  std::latch opening{static_cast<std::ptrdiff_t>(how.dashboards) + 1};  // the dashboards, and the one who opens them

  std::atomic<std::uint64_t> requests = 0;
  std::atomic<bool> broken = false;

  std::mutex mutex;
  std::condition_variable closed;
  std::size_t open = how.dashboards;
  std::exception_ptr fault;
  statistics sum;
};

void refresh(wall& on, std::size_t tenant, statistics& mine) {
  const truth& known = on.tenants[tenant];
  const std::size_t oldest = known.oldest();
  const auto asked = clock::now();
  const shown answer = on.ask(tenant);
  mine.latencies.push_back(clock::now() - asked);
  ++mine.requests;
  if (answer.from_cache) ++mine.from_cache;
  if (!known.allows(answer.figures, oldest)) ++mine.wrong;
  on.requests.fetch_add(1, std::memory_order_relaxed);
}

void keep_refreshing(wall& on, std::size_t number, statistics& mine) {
  std::minstd_rand random{static_cast<std::minstd_rand::result_type>(number + 1)};
  const auto usual = std::chrono::microseconds{on.how.think_time}.count();
  std::uniform_int_distribution think{usual / 2, usual + usual / 2};
  const std::size_t tenant = number % on.tenants.size();

  on.opening.arrive_and_wait();
  const auto until = clock::now() + on.how.at_least;
  while (!on.broken) {
    refresh(on, tenant, mine);
    if (mine.requests >= on.how.refreshes_at_least && clock::now() >= until) return;
    std::this_thread::sleep_for(std::chrono::microseconds{think(random)});
  }
}

void dashboard(wall& on, std::size_t number) {
  statistics mine;
  std::exception_ptr fault;
  try {
    keep_refreshing(on, number, mine);
  } catch (...) {
    fault = std::current_exception();
    on.broken = true;
  }

  const std::lock_guard held{on.mutex};
  on.sum += mine;
  if (!on.fault) on.fault = fault;
  --on.open;
  on.closed.notify_one();
}

void watch_until_closed(wall& on, clock::time_point start, const meanwhile& watch) {
  std::unique_lock held{on.mutex};
  while (!on.closed.wait_for(held, std::chrono::milliseconds{50}, [&] { return on.open == 0; })) {
    if (!watch) continue;
    held.unlock();
    watch(std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - start), on.requests);
    held.lock();
  }
}

}  // namespace

std::size_t truth::oldest() const {
  const std::lock_guard held{mutex_};
  return oldest_;
}

bool truth::allows(const portfolio_kpi& shown, std::size_t oldest) const {
  const std::lock_guard held{mutex_};
  return std::find(versions_.begin() + static_cast<std::ptrdiff_t>(oldest), versions_.end(), shown) != versions_.end();
}

void truth::announce(portfolio_kpi next) {
  const std::lock_guard held{mutex_};
  versions_.push_back(std::move(next));
}

void truth::confirm() {
  const std::lock_guard held{mutex_};
  oldest_ = versions_.size() - 1;
}

statistics& statistics::operator+=(const statistics& more) {
  requests += more.requests;
  from_cache += more.from_cache;
  wrong += more.wrong;
  elapsed += more.elapsed;
  latencies.insert(latencies.end(), more.latencies.begin(), more.latencies.end());
  return *this;
}

std::chrono::nanoseconds statistics::percentile(double fraction) const {
  if (latencies.empty()) return {};
  auto sorted = latencies;
  const auto rank = static_cast<std::ptrdiff_t>(fraction * static_cast<double>(sorted.size() - 1));
  std::nth_element(sorted.begin(), sorted.begin() + rank, sorted.end());
  return sorted[static_cast<std::size_t>(rank)];
}

statistics open_dashboards(const visit& how, const std::deque<truth>& tenants, const way_to_ask& ask,
                           const meanwhile& watch) {
  wall on{how, tenants, ask};
  std::vector<std::jthread> threads;
  threads.reserve(how.dashboards);
  try {
    while (threads.size() < how.dashboards) {
      threads.emplace_back([&on, number = threads.size()] { dashboard(on, number); });
    }
  } catch (...) {  // no more threads to be had: let those go that wait for the opening
    on.broken = true;
    on.opening.count_down(static_cast<std::ptrdiff_t>(how.dashboards - threads.size()) + 1);
    throw;
  }

  const auto start = clock::now();
  on.opening.arrive_and_wait();
  try {
    watch_until_closed(on, start, watch);
  } catch (...) {
    on.broken = true;
    throw;
  }
  threads.clear();
  if (on.fault) std::rethrow_exception(on.fault);
  on.sum.elapsed = clock::now() - start;
  return std::move(on.sum);
}

}  // namespace buildings
