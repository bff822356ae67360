#pragma once
// Takes fetches to their end: on the caller's thread or as a coroutine, and what can go on alone in the background.

#include "caching/face.hpp"
#include "caching/fetch_session.hpp"

#include <tenantry/detail/cache_core.hpp>
#include <tenantry/task.hpp>

#include <exception>
#include <memory>
#include <utility>
#include <vector>

namespace tenantry::detail {

/// What loads for a call.
struct loading {
  const any_loader& here;
  const std::shared_ptr<const any_async_loader>& anywhere;  // nothing where the loader may not outlive the call
};

/// Reads, and never loads.
task<looked_up> look_only(cache_state& on, face how, key k);

/// A fresh value is renewed in the background; this fetch ends with it as it is.
void leave_refreshing(cache_state& on, fetch_session& fetch, const std::shared_ptr<const any_async_loader>& load);

/// Until it is over. It may have become another session by then, whose load was given away.
void run(cache_state& on, std::unique_ptr<fetch_session>& fetch, const loading& how);
task<void> async_run(cache_state& on, std::unique_ptr<fetch_session>& fetch,
                     std::shared_ptr<const any_async_loader> load);

/// Several fetches, whose round trips are made together: own loads first, then the waiting for those of others.
class fetch_group {
 public:
  using sessions = std::vector<std::unique_ptr<fetch_session>>;

  fetch_group(cache_state& on, sessions all) : on_{on}, sessions_{std::move(all)} {}

  void run(const loading& how, const any_batch_loader& load_all);
  task<void> async_run(std::shared_ptr<const any_async_loader> load, const any_batch_loader& load_all);
  /// In the order of the sessions. Throws what the first of them failed with.
  std::vector<fetched> end();
  /// The end of those that were handed over.
  void end_alone();

 private:
  struct asked;

  asked begin_asking();
  void end_asking(const asked& who, answers all);
  void fail_asking(const asked& who, const error& why);
  bool begin_round(const std::shared_ptr<const any_async_loader>& load, const any_batch_loader& load_all);
  void settle_all();
  void leave_all(const std::shared_ptr<const any_async_loader>& load, const any_batch_loader& load_all);
  void load_all_at_once(const any_batch_loader& load_all, const std::exception_ptr& refused, bool begun);
  [[nodiscard]] bool any(fetch_step what) const noexcept;

  cache_state& on_;
  sessions sessions_;
};

}  // namespace tenantry::detail
