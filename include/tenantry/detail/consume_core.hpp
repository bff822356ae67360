#pragma once
// The part of a consumer that does not depend on the type of its events.

#include <tenantry/export.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>
#include <tenantry/tenant.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

namespace tenantry {

/// Which events a group gets that begins now.
enum class group_start : unsigned char {
  first,   ///< all that the log keeps
  latest,  ///< those that are appended from now on
};

/// The same for all consumers of a group.
struct consume_options {
  /// Events that are taken at a time.
  std::size_t batch = 16;
  group_start start = group_start::first;
  /// So often an event is handed to somebody; then it becomes a dead letter.
  std::uint32_t max_attempts = 5;
  /// After an attempt that failed; doubled for each further one, up to `claim_after`.
  std::chrono::milliseconds retry_after = std::chrono::seconds{1};
  /// How long a consumer shows no sign of life before others get what it was given. Those that live renew it, however
  /// long a handler takes.
  std::chrono::milliseconds claim_after = std::chrono::seconds{30};
  std::uint64_t keep_dead = 1000;  ///< dead letters; of more, the last ones
};

/// What a consumer did.
struct consumer_counters {
  std::uint64_t handled = 0;  ///< events whose handler returned
  std::uint64_t failed = 0;   ///< attempts whose handler threw
  std::uint64_t again = 0;    ///< attempts at events that somebody had been given before
  std::uint64_t dead = 0;     ///< dead letters that it made
  std::uint64_t lost = 0;     ///< events that the log did not keep until a consumer of the group was done with them
};

/// An event that no consumer of a group could handle.
struct dead_letter {
  std::string place;  ///< to remove it
  std::string id;     ///< of the event
  std::string payload;
  std::uint32_t attempts = 0;
  std::string why;
};

namespace detail {

class consume_state;
class log_state;
struct held_work;
using work_ref = std::shared_ptr<const held_work>;

TENANTRY_EXPORT std::string_view id_of(const held_work& event) noexcept;
TENANTRY_EXPORT std::string_view bytes_of(const held_work& event) noexcept;
TENANTRY_EXPORT std::uint32_t attempt_of(const held_work& event) noexcept;
TENANTRY_EXPORT bool lost(const held_work& event) noexcept;

/// Between `begin` and `leave`, after each event that `next` gave, one of `done`, `failed` and `undecodable`.
class TENANTRY_EXPORT consume_core {
 public:
  /// Errors: invalid_option, naming the field.
  consume_core(std::shared_ptr<log_state> log, subscriber& by, const tenant_id& tenant, std::string_view group,
               const consume_options& how);
  consume_core(consume_core&&) noexcept;
  consume_core& operator=(consume_core&&) noexcept;
  ~consume_core();

  void begin();
  task<void> async_begin();
  /// Nothing: it was stopped, or its subscriber or client ended.
  work_ref next(const std::stop_token& stop);
  task<work_ref> async_next(std::stop_token stop);
  void done();
  void failed(std::string_view why);
  void undecodable(std::string_view why);
  /// Settles what it was given, and gives back what is left.
  void leave() noexcept;
  task<void> async_leave();

  void stop() noexcept;
  [[nodiscard]] consumer_counters counters() const noexcept;

 private:
  std::unique_ptr<consume_state> state_;
};

}  // namespace detail

}  // namespace tenantry
