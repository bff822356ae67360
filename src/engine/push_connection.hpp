#pragma once
// Drives a push machine on the I/O thread.

#include "engine/connector.hpp"
#include "engine/io_loop.hpp"
#include "engine/link_state.hpp"
#include "engine/news.hpp"
#include "engine/push_event.hpp"
#include "engine/push_machine.hpp"
#include "net/socket.hpp"

#include <tenantry/client_options.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenantry::detail {

/// A connection for what the server says by itself: messages, and the invalidations of near caches. It is opened at
/// once and again whenever it was lost, as lanes are.
///
/// The listener is called on the I/O thread, without locks held, with one event after the other. It must not block, and
/// may call the members below except the destructor.
///
/// Threads: all members from any thread, but see the destructor.
class push_connection final : private io_task {
 public:
  using listener = std::function<void(push_event& what)>;

  push_connection(const client_options& options, io_loop& loop, const push_options& how, listener told);
  /// The listener is not called any more when it returns. Not for the I/O thread.
  ~push_connection() override;
  /// The same, on any thread, but not from the listener.
  static void end(std::unique_ptr<push_connection> one) noexcept;

  /// Idempotent and not counted: see push_machine. The outcome is an event.
  standing want(push_kind kind, std::string_view name);
  void unwant(push_kind kind, std::string_view name);

  /// From now on the heartbeat is that of these options: see push_machine.
  void set_heartbeat(const push_options& of);

  /// Ends the connection of this generation, if it is still there, and opens another one.
  void restart(std::uint64_t generation, std::string why);

  /// The CLIENT ID for CLIENT TRACKING ... REDIRECT and its generation; nothing without a connection.
  struct identity {
    std::uint64_t generation = 0;
    std::int64_t client_id = 0;
  };
  [[nodiscard]] std::optional<identity> connected_as() const;
  /// Why there is no connection, as far as an attempt has shown.
  [[nodiscard]] std::optional<failure> last_failure() const;

  /// In the child of a fork, as blocking_driver's.
  void abandon() noexcept { socket_.forget(); }

 private:
  using lock = std::unique_lock<std::mutex>;
  using phase = link_state::phase;

  interest run(short events) noexcept override;
  [[nodiscard]] bool has_work() noexcept override;

  void take_connection();
  void read(lock& held);
  void write();
  void leave(failure why);
  void deliver(lock& held);

  io_loop& loop_;
  listener told_;

  mutable std::mutex mutex_;
  push_machine machine_;
  link_state link_;
  net::socket socket_;
  bool write_blocked_ = false;
  bool changed_ = true;                 // since the last run
  std::optional<std::string> restart_;  // the connection that is there, for this reason
  std::vector<push_event> events_;
  std::vector<push_event> telling_;  // of the I/O thread
  news news_;
  connector connector_;  // used by the I/O thread; destroyed first, because its attempt reports to the others
};

}  // namespace tenantry::detail
