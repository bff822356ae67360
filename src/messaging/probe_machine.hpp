#pragma once
// When a connection is probed, and when it has failed. Sans-io.

#include <tenantry/subscriber.hpp>

#include <chrono>
#include <cstdint>
#include <optional>

namespace tenantry::detail {

/// Probes of one connection after another: each is published, and has to come back as a message.
///
/// - Only a probe that Redis has accepted counts, and one at a time is on its way.
/// - Time alone ends no connection: when a probe is late there is one more second at most for what has arrived already.
///   So a process that stood still does not take its own delay for the server's.
/// - After a connection that failed the next one is probed later, up to 16 intervals, until a probe comes back.
class probe_machine {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  explicit probe_machine(const probe_options& how);

  /// The probe's channel is subscribed on the connection of this generation.
  void confirmed(std::uint64_t generation, time_point now) noexcept;
  /// It is not any more.
  void unconfirmed() noexcept { now_ = stage::off; }

  /// The number of a probe that is to be published now. `accepted` or `failed` has to follow.
  [[nodiscard]] std::optional<std::uint64_t> due(time_point now) noexcept;
  /// Redis has accepted it; it may have arrived before that is known.
  void accepted(std::uint64_t number, time_point now) noexcept;
  /// It may not have been published.
  void failed(std::uint64_t number, time_point now) noexcept;
  void arrived(std::uint64_t number, time_point now) noexcept;

  /// The generation of a connection that has failed, once.
  [[nodiscard]] std::optional<std::uint64_t> late(time_point now) noexcept;

  /// When to ask `due` and `late`; time_point::max() when there is nothing to wait for.
  [[nodiscard]] time_point next() const noexcept;

 private:
  enum class stage : unsigned char { off, resting, sending, awaiting, overdue };

  void rest(time_point now, std::chrono::milliseconds span) noexcept;

  const probe_options how_;
  stage now_ = stage::off;
  time_point until_{};  // of the rest, or of the wait
  std::uint64_t generation_ = 0;
  std::uint64_t number_ = 0;  // of the latest probe
  int failures_ = 0;          // in a row
};

}  // namespace tenantry::detail
