#pragma once
// Whether a lane has a connection, and when the next attempt to get one is due. Sans-io.

#include "engine/backoff.hpp"
#include "engine/exchange.hpp"

#include <chrono>
#include <optional>

namespace tenantry::detail {

/// The rules of both drivers. One attempt at a time, with full jitter between them. A server that cannot be reached is
/// tried again, and calls wait for it if they like; one that refuses the client (wrong password, cluster mode, not a
/// Redis) is left alone for a while, and fails all calls at once.
class link_state {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  enum class phase : unsigned char { offline, connecting, online };

  [[nodiscard]] phase now() const noexcept { return phase_; }
  [[nodiscard]] bool online() const noexcept { return phase_ == phase::online; }
  /// When an attempt may begin.
  [[nodiscard]] time_point next_attempt() const noexcept { return next_attempt_; }

  void attempt() noexcept { phase_ = phase::connecting; }
  /// The attempt ended without a result: whoever made it gave up first.
  void given_up() noexcept { phase_ = phase::offline; }
  void connected(time_point now) noexcept {
    phase_ = phase::online;
    connected_at_ = now;
    useful_ = false;
    refused_ = false;
    last_.reset();
  }
  /// The connection has served somebody.
  void served() noexcept { useful_ = true; }
  void failed(const failure& why, time_point now, double random);
  /// The connection ended. The first attempt to get another one is due at once, unless it neither lasted a second nor
  /// served anybody: a server that accepts clients only to drop them is not asked in a circle.
  void lost(const failure& why, time_point now, double random);

  /// Why a call that comes now need not wait, or nullptr.
  [[nodiscard]] const failure* refusal(bool fail_fast, time_point now) const noexcept {
    if (phase_ == phase::online || !last_) return nullptr;
    const bool pausing = now < next_attempt_;
    const bool at_once = (refused_ && pausing) || (fail_fast && (pausing || phase_ == phase::connecting));
    return at_once ? &*last_ : nullptr;
  }
  /// True when the last attempt was refused: then also those calls fail that would wait.
  [[nodiscard]] bool refused() const noexcept { return refused_; }
  /// Why the last attempt failed, or a connection that served nobody ended; nothing since there was a good one.
  [[nodiscard]] const std::optional<failure>& last_failure() const noexcept { return last_; }

 private:
  phase phase_ = phase::offline;
  bool refused_ = false;
  bool useful_ = false;
  time_point next_attempt_{};
  time_point connected_at_{};
  backoff backoff_;
  std::optional<failure> last_;
};

}  // namespace tenantry::detail
