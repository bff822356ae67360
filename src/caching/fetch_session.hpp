#pragma once
// Drives fetch machines: on the caller's thread, as a coroutine, and several at once.

#include "caching/cache_state.hpp"
#include "caching/fetch_machine.hpp"
#include "caching/flights.hpp"
#include "caching/wakeups.hpp"

#include <tenantry/detail/cache_core.hpp>
#include <tenantry/key.hpp>
#include <tenantry/load_context.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

namespace tenantry::detail {

/// One fetch. Whoever made it takes steps until it is `over`, and then its `end`.
class fetch_session {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  fetch_session(cache_state& on, const key& k, bool may_wait);
  fetch_session(const fetch_session&) = delete;
  fetch_session& operator=(const fetch_session&) = delete;
  /// Ends the flight that it leads, if nothing else did.
  ~fetch_session();

  [[nodiscard]] bool over() const noexcept { return step == fetch_step::answer || step == fetch_step::give_up; }
  void take_step(const any_loader& load);
  task<void> async_take_step(const any_async_loader& load);
  /// The result, or throws why there is none.
  fetched end();
  /// Reads, and never loads.
  looked_up look_only();

  // The parts of a step, for who drives several.
  void announce();
  void answered(std::vector<reply> replies);
  void unanswered(const error& why);
  void decode();
  void board();
  [[nodiscard]] load_context context();
  void loaded(any_value made, load_context& said, std::chrono::microseconds took);
  /// One call of a loader for all of these, which are about to load. What it throws has failed for each.
  static void load_together(cache_state& on, std::span<fetch_session* const> all, std::span<const key> keys,
                            const any_batch_loader& load);
  /// Tells those who wait for this fetch as soon as there is something to tell.
  void land_if_over();
  [[nodiscard]] const tenant_id& tenant() const noexcept { return tenant_; }
  void load_failed(std::exception_ptr what);

  fetch_machine machine;
  fetch_step step = fetch_step::ask;

 private:
  void load(const any_loader& load);
  task<void> async_load(const any_async_loader& load);
  task<void> async_ask();
  void keep_lease(std::optional<lease_keeper::hold>& kept);
  [[nodiscard]] fetched result() const;
  void withdraw() noexcept;
  void land(std::optional<fetched> what, const std::exception_ptr& fault) noexcept;
  void count_end() noexcept;

  cache_state& on_;
  const key& key_;
  const tenant_id tenant_;
  const caller by_;
  any_value value_;
  std::shared_ptr<flight> joined_;
  std::shared_ptr<flight> announced_;
  std::stop_source over_;  // nobody waits for the load any longer
  bool landed_ = false;
  bool waited_ = false;
  std::exception_ptr fault_;
  std::shared_ptr<const error> refusal_;  // of the codec
  std::optional<wakeups::waiter> waiter_;
};

/// Several fetches, whose round trips are made together: own loads first, then the waiting for those of others.
class fetch_group {
 public:
  fetch_group(cache_state& on, std::span<const key> keys);

  void run(const any_loader& load, const any_batch_loader& load_all);
  /// In the order of the keys. Throws what the first of them failed with.
  std::vector<fetched> end();

 private:
  void ask_all();
  void settle_all();
  void load_all_at_once(const any_batch_loader& load_all);
  bool any(fetch_step what) const noexcept;

  cache_state& on_;
  const std::span<const key> keys_;
  std::vector<std::unique_ptr<fetch_session>> sessions_;
};

}  // namespace tenantry::detail
