#pragma once
// A connected stream socket, plain or with TLS.

#include "net/resolver.hpp"
#include "net/wait.hpp"

#include <tenantry/error.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
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

/// What TLS found wrong with a connection.
struct tls_failure {
  errc code = errc::protocol;
  std::string text;  // OpenSSL's own reasons, and a hint where there is one
};

struct tls_context;
class tls_session;

/// The system calls themselves, for who brings the descriptor.
transfer send_some(int fd, std::string_view bytes) noexcept;
transfer receive_some(int fd, std::span<char> room) noexcept;

/// Close-on-exec, never raises SIGPIPE. No member waits unless it says so. TCP: no delay, keepalive after 10 s of
/// silence (3 probes, 5 s apart), and bytes that stay unacknowledged for `unacknowledged` end the connection, which
/// keepalive alone would not notice.
class socket {
 public:
  socket() noexcept;
  socket(socket&& from) noexcept;
  socket& operator=(socket&& from) noexcept;
  ~socket();

  struct attempt;
  /// Connects to one address. See `attempt`.
  static attempt connect(const address& to, clock::time_point deadline, std::chrono::milliseconds unacknowledged,
                         std::span<const int> wakeups);
  /// The address of a Unix domain socket. Errors: std::length_error when the path is too long for the system.
  static address unix_address(const std::string& path);

  struct encryption;
  /// Shakes hands as a TLS client; from then on everything goes through TLS. See `encryption`.
  encryption start_tls(const tls_context& context, const std::string& host, clock::time_point deadline,
                       std::span<const int> wakeups);

  /// One thread may send while another receives. After would_block the next call must begin with the same bytes.
  transfer send(std::string_view bytes) const noexcept;
  /// With TLS would_block is also the answer to records that carry no application data.
  transfer receive(std::span<char> room) const noexcept;

  /// How long `wait_and_receive` waits.
  static constexpr std::chrono::milliseconds patience{20};
  /// True when `wait_and_receive` may be used, which saves a system call: not with TLS.
  [[nodiscard]] bool can_wait() const noexcept { return can_wait_ && !tls_; }
  /// As `receive`, but waits for bytes or the end of the connection; would_block after `patience`, or before.
  transfer wait_and_receive(std::span<char> room) const noexcept;

  /// True when `receive` has something to tell that polling the descriptor would not report: look here first.
  [[nodiscard]] bool buffered() const noexcept;

  /// True when the peer closed the connection, or sent something that nobody asked for.
  [[nodiscard]] bool has_news() const noexcept;

  /// Why TLS ended the connection, when it was TLS and not the system.
  [[nodiscard]] std::optional<tls_failure> defect() const;

  /// Ends the connection in both directions and wakes whoever waits on it; the descriptor stays until destruction.
  void shut_down() const noexcept;

  /// What was sent and has not left this machine yet is dropped when the socket is destroyed.
  void abort() const noexcept;

  /// Closes the descriptor and says nothing to the peer, because this is the child of a fork and the connection is its
  /// parent's. What TLS holds is leaked.
  void forget() noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  descriptor fd_;
  bool can_wait_ = false;
  std::unique_ptr<tls_session> tls_;
};

struct socket::attempt {
  socket connected;       // valid when how is io and fault is 0
  ready how = ready::io;  // woken or deadline when the attempt was given up
  int fault = 0;          // errno
};

struct socket::encryption {
  std::optional<tls_failure> failed;
  ready how = ready::io;  // woken or deadline when it was given up
  bool silent = false;    // then: the server had not said anything
};

}  // namespace tenantry::net
