#pragma once
// TLS over a connected socket. Where the library is built without TLS, these entries refuse.

#include "net/socket.hpp"
#include "net/wait.hpp"

#include <tenantry/error.hpp>
#include <tenantry/tls_options.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tenantry::net {

/// Credentials and rules, ready for use. Never changes, so any number of threads may share it.
struct tls_context;

/// The context of these options. Equal options share one; it is made again after a file of theirs changed on disk,
/// unless the new files cannot be used, as in the middle of a rotation.
///
/// Errors: invalid_option, naming the field, with OpenSSL's reason.
std::shared_ptr<const tls_context> tls_context_of(const tls_options& options);
/// The same from the files as they are now, for this caller alone.
std::shared_ptr<const tls_context> make_tls_context(const tls_options& options);

/// One TLS connection. Sends no SIGPIPE; says good-bye (close_notify) when destroyed, if that is possible at once.
///
/// Threads: one may send while another receives.
class tls_session {
 public:
  struct attempt;
  /// Shakes hands over a connected descriptor that outlives the session. `host` is the name or numeric
  /// address that the server's certificate has to be for.
  static attempt start(const tls_context& context, int fd, const std::string& host, clock::time_point deadline,
                       std::span<const int> wakeups);

  tls_session() = default;
  tls_session(const tls_session&) = delete;
  tls_session& operator=(const tls_session&) = delete;
  virtual ~tls_session() = default;

  /// After would_block the next call must begin with the same bytes.
  virtual transfer send(std::string_view bytes) noexcept = 0;
  /// An end without good-bye is `ended` too: replies tell themselves whether they are complete.
  virtual transfer receive(std::span<char> room) noexcept = 0;
  /// As socket::has_news; records without application data (session tickets, key updates) are none.
  virtual bool has_news() noexcept = 0;
  /// As socket::buffered.
  virtual bool buffered() noexcept = 0;
  /// No good-bye.
  virtual void abort() noexcept = 0;
  /// As socket::defect.
  virtual std::optional<tls_failure> defect() = 0;
};

struct tls_session::attempt {
  std::unique_ptr<tls_session> session;  // when it succeeded
  socket::encryption outcome;
};

}  // namespace tenantry::net
