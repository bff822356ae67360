#pragma once
// The bridge from MQTT to the database and to Redis.

#include "bounded_queue.hpp"
#include "held_alarms.hpp"
#include "payloads.hpp"
#include "recent_ids.hpp"
#include "schemas.hpp"
#include "store.hpp"

#include <tenantry/cache.hpp>
#include <tenantry/error.hpp>
#include <tenantry/event_log.hpp>
#include <tenantry/invalidator.hpp>
#include <tenantry/tenant.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace gateway {

struct ingest_options {
  std::size_t queue = 1024;   ///< messages that wait to be handled
  std::size_t batch = 256;    ///< messages that are committed together
  std::size_t held = 10'000;  ///< alarms that wait for Redis
  std::chrono::milliseconds expire_every{1000};
  std::chrono::milliseconds retry_every{250};  ///< while Redis, or the database, fails
  /// Told of each message that is refused. The topic is any text at all. May not throw, as the next one.
  std::function<void(refusal why, std::string_view topic, std::string_view detail)> on_refused{};
  /// Told when Redis ("redis") or the database ("store") begins to fail, and why.
  std::function<void(std::string_view what, std::string_view why)> on_failure{};
};

struct ingest_counters {
  std::uint64_t received = 0;  ///< messages
  /// Messages by reason, in the order of `refusals`. With unknown_meter the other readings of the message count.
  std::array<std::uint64_t, refusals.size()> refused{};
  std::uint64_t new_readings = 0;
  std::uint64_t duplicate_readings = 0;  ///< which another instance, or an earlier copy, brought before
  /// In the log for certain. A copy that another instance appended before is among them: the log tells nobody.
  std::uint64_t alarms_appended = 0;
  std::uint64_t alarms_duplicate = 0;  ///< of those, the ones that this instance had appended before
  std::uint64_t alarms_dropped = 0;    ///< because too many were held, when it stopped, or too large for the log
  std::uint64_t alarms_held = 0;       ///< now
  std::uint64_t health_puts = 0;
  std::uint64_t expires = 0;  ///< calls
  std::uint64_t redis_failures = 0;
  std::uint64_t store_failures = 0;
};

/// Takes messages of gateways in, on a thread of its own:
///
///   readings  database, committed -> health of the gateway -> tag kpi of the tenant expired
///   alarms    the tenant's event log, under the alarm's own id
///
/// Several instances may be given the same messages: a reading is one row, and an alarm is appended once.
///
/// The tag is expired after the commit, at once and then at most once in `expire_every`, and once more after the last
/// commit: so who loads the KPI after that has the last reading. While Redis fails, alarms are held, the oldest ones
/// when there is no room for all, and appended in each tenant's order when it is back; the tag is expired then;
/// readings go into the database meanwhile. While the database fails nothing is taken in, and `offer` waits.
///
/// Not promised: that alarms which are held survive this process. Another instance has them as well.
///
/// Threads:  all members from any thread.
/// Lifetime: what it is made of must outlive it.
class ingest {
 public:
  ingest(store& into, const tenantry::event_log<alarm>& log, tenantry::cache<health>& healths,
         const tenantry::invalidator& invalidator, ingest_options options = {});
  /// As `stop`.
  ~ingest();
  ingest(const ingest&) = delete;
  ingest& operator=(const ingest&) = delete;

  /// For the handler of `mqtt`: waits while the queue is full. False after `stop`: then the message is not handled.
  bool offer(std::string_view topic, std::string_view payload);

  [[nodiscard]] ingest_counters counters() const;

  /// Takes in what is queued, tries for so long to append what is held and to expire what is due, and ends the thread.
  /// Threads that wait in `offer` are let go. Idempotent. Stop the `mqtt` before, so that no message which the broker
  /// takes for delivered comes too late; where that has no end because the database fails, this lets its handler go.
  void stop(std::chrono::milliseconds patience = std::chrono::seconds{2}) noexcept;

 private:
  using clock = std::chrono::steady_clock;
  struct raw {
    std::string topic;
    std::string payload;
  };
  struct arrived {
    std::string topic;
    message from;
  };
  /// When the tag of a tenant was last expired, and whether something was committed since.
  struct freshness {
    std::optional<clock::time_point> expired_at;
    bool changed = false;
  };

  void run();
  [[nodiscard]] std::size_t room() const;
  void take_in(std::vector<raw> all);
  std::optional<arrived> admit(raw one);
  void write(const std::vector<arrived>& reports);
  void put_health(const std::vector<arrived>& reports, const std::vector<store::added>& done);
  void append_alarms();
  held_alarms::outcome append(const tenantry::tenant_id& tenant, const alarm& one);
  void expire_what_is_due();

  /// Calls it until the database does what it is told. False where it did not until the end of the patience.
  bool in_store(const std::function<void()>& what);
  [[nodiscard]] bool may_ask_redis() const { return !redis_fails_ || clock::now() >= redis_again_at_; }
  void redis_answered() { redis_fails_ = false; }
  void redis_failed(const tenantry::error& why);
  void refuse(refusal why, std::string_view topic, std::string_view detail);
  [[nodiscard]] clock::time_point due(const freshness& of) const;
  [[nodiscard]] clock::time_point next_due() const;
  [[nodiscard]] bool settled() const;
  [[nodiscard]] bool out_of_patience() const;
  template <class Change>
  void count(const Change& change) {
    const std::lock_guard held{mutex_};
    change(counters_);
  }

  store& store_;
  const tenantry::event_log<alarm>& log_;
  tenantry::cache<health>& healths_;
  const tenantry::invalidator& invalidator_;
  ingest_options options_;

  bounded_queue<raw> queue_;
  mutable std::mutex mutex_;
  ingest_counters counters_;                     // under the mutex
  std::optional<clock::time_point> give_up_at_;  // under the mutex; there once it is to stop

  // Of the thread alone:
  held_alarms held_;
  recent_ids appended_{10'000};
  std::map<tenantry::tenant_id, freshness> tenants_;
  clock::time_point redis_again_at_;  // where it fails
  bool redis_fails_ = false;
  bool store_fails_ = false;

  std::mutex joining_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace gateway
