#pragma once
// A connected, non-blocking stream socket.

#include "net/resolver.hpp"
#include "net/wait.hpp"

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tenantry::net {

/// What one system call on a socket did.
struct transfer {
  enum class status : unsigned char { done, would_block, ended, failed };
  status how = status::done;
  std::size_t size = 0;  // bytes moved, when done
  int fault = 0;         // errno, when failed
};

/// Close-on-exec, never raises SIGPIPE. TCP: no delay, keepalive after 10 s of silence (3 probes, 5 s apart), and bytes
/// that stay unacknowledged for `unacknowledged` end the connection, which keepalive alone would not notice.
class socket {
 public:
  socket() noexcept = default;

  struct attempt;
  /// Connects to one address. See `attempt`.
  static attempt connect(const address& to, clock::time_point deadline, std::chrono::milliseconds unacknowledged,
                         std::span<const int> wakeups);
  /// The address of a Unix domain socket. Errors: std::length_error when the path is too long for the system.
  static address unix_address(const std::string& path);

  transfer send(std::string_view bytes) const noexcept;
  transfer receive(std::span<char> room) const noexcept;

  /// True when the peer closed the connection, or sent something that nobody asked for.
  [[nodiscard]] bool has_news() const noexcept;

  /// Ends the connection in both directions and wakes whoever waits on it; the descriptor stays until destruction.
  void shut_down() const noexcept;

  /// What was sent and has not left this machine yet is dropped when the socket is destroyed.
  void abort() const noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  descriptor fd_;
};

struct socket::attempt {
  socket connected;       // valid when how is io and fault is 0
  ready how = ready::io;  // woken or deadline when the attempt was given up
  int fault = 0;          // errno
};

}  // namespace tenantry::net
