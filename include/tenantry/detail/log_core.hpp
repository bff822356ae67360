#pragma once
// The part of an event log that does not depend on the type of its events.

#include <tenantry/channel.hpp>
#include <tenantry/client.hpp>
#include <tenantry/detail/consume_core.hpp>
#include <tenantry/error.hpp>
#include <tenantry/export.hpp>
#include <tenantry/feed_events.hpp>
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
#include <variant>
#include <vector>

namespace tenantry {

/// Who hears of an event besides the followers of its log.
enum class announce : unsigned char {
  channel,  ///< whoever is subscribed to the channel itself: the event's bytes
  nobody,
};

struct event_log_options {
  std::uint64_t keep = 10'000;  ///< events of each tenant
  /// How long a log is kept after its last event. Nothing: for ever.
  std::optional<std::chrono::milliseconds> life = std::nullopt;
  tenantry::announce announce = tenantry::announce::channel;
  std::size_t max_payload = 64U << 10U;  ///< bytes of an event
  /// How long an idempotency key is remembered.
  std::chrono::milliseconds once_for = std::chrono::hours{24};
  /// Instead of `client_options::timeout`.
  std::chrono::milliseconds timeout = std::chrono::seconds{1};
};

struct follow_options {
  std::uint64_t max_replay = 10'000;  ///< events that are replayed at first; of more, the last ones
  /// Published events that wait to be taken. When they do not fit, the log is read instead.
  std::size_t capacity = 1024;
  /// How long `follow` waits for the server.
  std::chrono::milliseconds timeout = std::chrono::seconds{5};
};

/// What a follower delivered.
struct follower_counters {
  std::uint64_t delivered = 0;  ///< events
  std::uint64_t replayed = 0;   ///< of them, those that were read from the log
  std::uint64_t reads = 0;      ///< pages of the log that it used; one read of Redis may serve many followers
  std::uint64_t gaps = 0;
  std::uint64_t lost = 0;  ///< events that gaps told of, where the number was known
};

namespace detail {

struct logged_payload;
class follow_state;
class log_state;

using followed_item = std::variant<std::shared_ptr<const logged_payload>, gap, closed>;

class TENANTRY_EXPORT follow_core {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit follow_core(std::unique_ptr<follow_state> mine) noexcept;
  follow_core(follow_core&&) noexcept;
  follow_core& operator=(follow_core&&) noexcept;
  ~follow_core();

  static follow_core begin(const std::shared_ptr<log_state>& log, subscriber& by, const tenant_id& tenant,
                           std::optional<std::string_view> last_id, const follow_options& how);
  static task<follow_core> async_begin(std::shared_ptr<log_state> log, subscriber& by, tenant_id tenant,
                                       std::optional<std::string> last_id, follow_options how);

  std::optional<followed_item> next(time_point limit, const std::stop_token& stop);
  task<std::optional<followed_item>> async_next(time_point limit, std::stop_token stop);
  void stop() noexcept;
  void undecodable(std::size_t bytes, std::string_view why) const;
  [[nodiscard]] follower_counters counters() const noexcept;

 private:
  std::unique_ptr<follow_state> state_;
};

TENANTRY_EXPORT std::string_view id_of(const logged_payload& event) noexcept;
TENANTRY_EXPORT std::string_view bytes_of(const logged_payload& event) noexcept;

class TENANTRY_EXPORT log_core {
 public:
  using channel_of = channel (*)(const tenant_id&);

  /// Errors: invalid_option, naming the field.
  log_core(const client& redis, channel_of where, const event_log_options& how);

  std::string append(const tenant_id& tenant, std::string_view event, std::string_view once) const;
  [[nodiscard]] task<std::string> async_append(const tenant_id& tenant, std::string event, std::string once) const;
  [[nodiscard]] std::vector<dead_letter> dead_letters(const tenant_id& tenant, std::string_view group,
                                                      std::size_t at_most) const;
  bool remove_dead_letter(const tenant_id& tenant, std::string_view group, std::string_view place) const;
  [[nodiscard]] const std::shared_ptr<log_state>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<log_state> state_;
};

}  // namespace detail

}  // namespace tenantry
