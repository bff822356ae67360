#include "caching/near_write.hpp"
#include "caching/sweep_machine.hpp"
#include "engine/seam.hpp"

#include <tenantry/invalidator.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

namespace tenantry {

namespace {

using clock = std::chrono::steady_clock;

void pause(clock::duration span, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock held{mutex};
  wake.wait_for(held, stop, span, [] { return false; });
}

/// The connection is exclusive, because SCAN's cursor must never reach another server process: after a restart the keys
/// lie elsewhere, and the sweep would be complete without having seen them all. Nor does anybody wait behind its pages.
sweep_report run(const client& redis, detail::sweep_machine machine, const sweep_options& how) {
  exclusive_connection own = redis.exclusive();
  while (!machine.ended() && !how.stop.stop_requested()) {
    const auto begin = clock::now();
    const std::vector<command> step = machine.next();
    std::optional<detail::near_write> removing{machine.removing()};
    const std::vector<reply> answers = own.execute_all(step);
    removing.reset();
    machine.on(answers);
    if (how.on_progress) how.on_progress(machine.report());
    if (const auto rest = machine.pause(clock::now() - begin); rest.count() > 0) pause(rest, how.stop);
  }
  return machine.report();
}

task<sweep_report> async_run(const client& redis, detail::sweep_machine machine, sweep_options how) {
  async_exclusive_connection own = redis.async_exclusive();
  while (!machine.ended() && !how.stop.stop_requested()) {
    const auto begin = clock::now();
    std::vector<command> step = machine.next();
    std::optional<detail::near_write> removing{machine.removing()};
    auto asked = own.async_execute_all(std::move(step));
    const std::vector<reply> answers = co_await std::move(asked);
    removing.reset();
    machine.on(answers);
    if (how.on_progress) how.on_progress(machine.report());
    const auto now = clock::now();
    if (const auto rest = machine.pause(now - begin); rest.count() > 0) {
      auto waiting = detail::seam::pause(redis, now + rest, how.stop);
      const bool open = co_await std::move(waiting);
      if (!open) break;
    }
  }
  co_return machine.report();
}

}  // namespace

invalidator::invalidator(const client& redis, catalog keys, undelivered undelivered)
    : redis_{&redis}, keys_{std::move(keys)}, undelivered_{undelivered} {}

sweep_report invalidator::sweep(const tenant_id& tenant, const sweep_options& how) const {
  return run(*redis_, {keys_, tenant, how}, how);
}

sweep_report invalidator::sweep(const key_pattern& pattern, const sweep_options& how) const {
  return run(*redis_, {keys_, pattern, how}, how);
}

task<sweep_report> invalidator::async_sweep(const tenant_id& tenant) const { return async_sweep(tenant, {}); }

task<sweep_report> invalidator::async_sweep(const tenant_id& tenant, const sweep_options& how) const {
  return async_run(*redis_, {keys_, tenant, how}, how);
}

task<sweep_report> invalidator::async_sweep(const key_pattern& pattern) const { return async_sweep(pattern, {}); }

task<sweep_report> invalidator::async_sweep(const key_pattern& pattern, const sweep_options& how) const {
  return async_run(*redis_, {keys_, pattern, how}, how);
}

}  // namespace tenantry
