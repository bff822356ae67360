#pragma once
// Probes one push connection through the client that publishes.

#include "engine/seam.hpp"
#include "messaging/probe_machine.hpp"

#include <tenantry/client.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/subscriber.hpp>
#include <tenantry/task.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

namespace tenantry::detail {

/// A coroutine on the I/O thread that publishes probes on a channel of its own and ends the connection when one does
/// not come back. Where Redis refuses the channel or the command it tells the observer, once, and ends.
///
/// Keys:    the channel `tenantry#probe:<32 hex digits>`. No schema renders a `#`.
/// Threads: all members from any thread.
class prober {
 public:
  /// Errors: std::system_error without entropy.
  prober(const client& redis, const probe_options& how);

  /// Once, with the connection that is to be probed; which has to live until `stop`.
  static void begin(const std::shared_ptr<prober>& self, push_connection& on);
  /// The connection is not used any more. Idempotent.
  void stop() noexcept;

  /// True for what is told of the channel of probes, and of nobody else's.
  bool take(const push_event& what);
  /// True when it has ended the connection of this generation.
  [[nodiscard]] bool has_ended(std::uint64_t generation) const;

 private:
  using clock = std::chrono::steady_clock;

  struct step {
    bool over = false;
    std::optional<std::string> refused;  // in the server's words
    std::optional<std::uint64_t> publish;
    clock::time_point until;
    std::stop_token sooner;
  };

  [[nodiscard]] step next();
  void settle(std::uint64_t number, const reply& answer);
  void failed(std::uint64_t number);
  void refuse(std::string text);
  void look_again();
  static task<void> work(std::shared_ptr<prober> self);

  const client& redis_;
  const probe_options how_;
  const std::string channel_;
  mutable std::mutex mutex_;
  probe_machine machine_;
  push_connection* connection_ = nullptr;
  std::optional<std::string> refused_;
  std::optional<std::uint64_t> ended_;  // generation
  std::stop_source sooner_;
};

}  // namespace tenantry::detail
