#pragma once
// The part of a subscription that does not depend on the type of its messages.

#include <tenantry/export.hpp>
#include <tenantry/feed_events.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>
#include <variant>

namespace tenantry {

/// What became of the messages of a subscription: received == delivered + dropped + queued.
struct subscription_counters {
  std::uint64_t received = 0;
  std::uint64_t delivered = 0;     ///< those that could not be decoded among them
  std::uint64_t dropped = 0;       ///< because the queue was full, or when the subscription ended
  std::uint64_t queued = 0;        ///< now
  std::uint64_t queued_bytes = 0;  ///< and their size
  std::uint64_t most_queued = 0;   ///< at a time
  std::uint64_t undecodable = 0;
  std::uint64_t gaps = 0;                         ///< outages, also those that are told as one gap
  std::uint64_t timed = 0;                        ///< of those delivered; see `subscriber_counters::time_in_queue`
  std::chrono::nanoseconds time_in_queue{};       ///< of these, together
  std::chrono::nanoseconds most_time_in_queue{};  ///< of one of them
};

namespace detail {

using feed_item = std::variant<published_ref, gap, lagged, closed>;
class feed;

class TENANTRY_EXPORT feed_core {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit feed_core(std::shared_ptr<feed> mine) noexcept;
  feed_core(feed_core&&) noexcept;
  feed_core& operator=(feed_core&&) noexcept;
  ~feed_core();

  std::optional<feed_item> next(time_point limit, const std::stop_token& stop);
  task<std::optional<feed_item>> async_next(time_point limit, std::stop_token stop);
  void unsubscribe() noexcept;
  [[nodiscard]] subscription_counters counters() const;
  /// Of the message that was taken last.
  void undecodable(const published_ref& what, std::string_view why);

 private:
  std::shared_ptr<feed> feed_;
};

}  // namespace detail

}  // namespace tenantry
