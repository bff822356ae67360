#pragma once
// Drives fetch machines: on the caller's thread, as a coroutine, and several at once.

#include "caching/cache_state.hpp"
#include "caching/fetch_machine.hpp"
#include "caching/flights.hpp"
#include "caching/near_cache.hpp"
#include "caching/near_write.hpp"
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

/// Who fetches. Inside of a loader they wait for loads of their own process only, and never in a circle.
enum class fetcher : unsigned char {
  outside,
  thread_inside,
  coroutine_inside,
};

/// One fetch. Whoever made it takes steps until it is `over`, and then its `end`. Where it `can_leave` its caller, it
/// may be given to `leave` instead.
class fetch_session {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  fetch_session(cache_state& on, key k, fetcher who, std::shared_ptr<const load_chain> inside = {});
  fetch_session(const fetch_session&) = delete;
  fetch_session& operator=(const fetch_session&) = delete;
  /// Ends the flight that it leads, if nothing else did.
  ~fetch_session();

  [[nodiscard]] bool over() const noexcept { return step == fetch_step::answer || step == fetch_step::give_up; }
  /// To be called first.
  void begin();
  void take_step(const any_loader& load);
  task<void> async_take_step(const any_async_loader& load);
  /// The result, or throws why there is none.
  fetched end();

  /// True when its next steps can be taken in the background: a load, or the renewal of a fresh value.
  [[nodiscard]] bool can_leave() const noexcept;
  /// What it gives is told to nobody but those who wait for the flight.
  std::shared_ptr<flight> hand_over();
  /// It cannot, and goes on with its caller.
  void stay() noexcept { stays_ = true; }
  [[nodiscard]] bool away() const noexcept { return away_; }
  /// In the background, before its loader is called. Errors: timeout_error (cancelled) when nobody wants it any more.
  void check_not_stopped() const;
  [[nodiscard]] bool stopped() const noexcept { return over_.stop_requested(); }
  /// Begins as the renewal of the value that another session has found.
  void begin_refresh(const fetch_machine& of);
  /// Goes on as one who waits for a load that was handed over.
  void follow(std::shared_ptr<flight> load, const fetch_machine& of);
  /// The end of one that was handed over.
  void end_alone();
  [[nodiscard]] const std::stop_source& load_over() const noexcept { return over_; }
  [[nodiscard]] const key& name() const noexcept { return key_; }

  // The parts of a step, for who drives several.
  void announce();
  void answered(answers all);
  void unanswered(const error& why);
  void decode();
  void board();
  void loaded(any_value made, load_context& said, std::chrono::microseconds took);
  /// One call of a loader for all of these, which are about to load. What it throws has failed for each.
  static void load_together(cache_state& on, std::span<fetch_session* const> all, const any_batch_loader& load);
  /// Tells those who wait for this fetch as soon as there is something to tell.
  void land_if_over();
  /// True while nothing was found out yet that would lead to a load.
  [[nodiscard]] bool looks() const noexcept { return step == fetch_step::ask && machine.still_looking(); }
  /// Of one that only looks: takes the replies, or throws the error among them.
  void looked(answers all);
  [[nodiscard]] looked_up end_looking();
  [[nodiscard]] const caller& by() const noexcept { return by_; }
  [[nodiscard]] const tenant_id& tenant() const noexcept { return tenant_; }
  void count_begin() noexcept;
  /// One that was not `begun` is no load for the counters.
  void load_failed(std::exception_ptr what, bool begun = true);

 private:
  const key key_;  // the machine refers to it

 public:
  fetch_machine machine;
  fetch_step step = fetch_step::ask;

 private:
  void load(const any_loader& load);
  task<void> async_load(const any_async_loader& load);
  /// For a loader that holds its thread, or may not.
  [[nodiscard]] load_context context(bool holds_thread);
  task<void> async_ask();
  void uncount_begin() noexcept;
  void announce_near();
  void note_near(bool stamp, bool tags);
  [[nodiscard]] std::shared_ptr<flight> led() const { return machine.leads() ? joined_ : own_; }
  /// Whether it is to be loaded by a thread that is not known yet.
  [[nodiscard]] bool may_leave() const noexcept;
  void lead_here() const;
  [[nodiscard]] bool may_follow(flight& load) const;
  void keep_lease(std::optional<lease_keeper::hold>& kept);
  [[nodiscard]] fetched result() const;
  void withdraw() noexcept;
  void land(std::optional<fetched> what, const std::exception_ptr& fault) noexcept;
  void count_end() noexcept;
  void count_load() noexcept;

  cache_state& on_;
  const tenant_id tenant_;
  const caller by_;
  any_value value_;
  std::shared_ptr<flight> joined_;
  std::shared_ptr<flight> announced_;
  std::stop_source over_;  // nobody waits for the load any longer
  const fetcher who_;
  const bool holds_thread_;  // one of the loads that it is inside of
  const std::shared_ptr<const load_chain> inside_;
  std::shared_ptr<flight> own_;  // of a load that was handed over, and is nobody's but its caller's
  bool away_ = false;            // handed over
  bool stays_ = false;
  bool landed_ = false;
  bool waited_ = false;
  std::exception_ptr fault_;
  std::shared_ptr<const error> refusal_;  // of the codec
  std::optional<wakeups::waiter> waiter_;
  std::optional<near_ticket> ticket_;
  std::optional<near_write> writing_;
};

}  // namespace tenantry::detail
