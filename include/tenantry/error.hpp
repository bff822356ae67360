#pragma once
// What can go wrong, and whether the command that failed ran.

#include <tenantry/export.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tenantry {

/// The cause of a failure.
enum class errc {
  invalid_name,      ///< a tenant id, tag or key argument that cannot be a name; never repaired
  invalid_option,    ///< an option, URL or argument out of range; the message names the field
  refused_command,   ///< a command that would break a shared connection (SELECT, SUBSCRIBE, BLPOP, ...)
  unreachable,       ///< name not resolved, connection refused, or the handshake ended early; transient
  auth,              ///< wrong user or password, or a command sent before authentication
  timeout,           ///< the deadline of the call passed
  cancelled,         ///< the caller's stop_token was triggered
  closed,            ///< the client was closed
  connection_lost,   ///< the connection ended while the command was on its way; transient
  protocol,          ///< bytes that are not RESP2, or a reply over the limits
  unsupported,       ///< a server that this version cannot use (Redis Cluster)
  server,            ///< an error reply without a code of its own below
  wrong_type,        ///< WRONGTYPE: the key holds another type of value
  no_permission,     ///< NOPERM: the ACL user may not do this
  no_script,         ///< NOSCRIPT: the script is not in the server's cache
  not_ready,         ///< LOADING, MASTERDOWN, TRYAGAIN, CLUSTERDOWN, BUSY: rejected for now; transient
  read_only,         ///< READONLY: a write was sent to a replica
  out_of_memory,     ///< OOM: the server is at maxmemory
  unexpected_reply,  ///< the reply has another type than the caller asked for
  encode,            ///< a value could not be turned into bytes
  overloaded,        ///< a bound of the client is reached (call_bounds); transient
  forked,            ///< the client was made before a fork, and this is the child
  recursive_load,    ///< a loader fetched the key that it is loading
  load_failed,       ///< the loader of this key failed a moment ago, and is not called again yet
  load_timeout,      ///< the load takes longer than `cache_options::hard_timeout`; it goes on
};

/// What became of the command that failed.
enum class execution {
  not_sent,  ///< no byte of it reached the kernel: it did not run and will not
  rejected,  ///< the server refused it before it had any effect
  unknown,   ///< written, but the outcome was not seen: it may have run, or may still run
  executed,  ///< it ran; what failed came after
};

/// The enumerator's name, for logs: "timeout".
TENANTRY_EXPORT std::string_view to_string(errc code) noexcept;
TENANTRY_EXPORT std::string_view to_string(execution what) noexcept;

/// Base of everything the library throws itself. Exceptions of a user's loader are never wrapped.
///
/// Copying never throws.
class TENANTRY_EXPORT error : public std::runtime_error {
 public:
  error(errc code, execution what, const std::string& message);
  error(const error&) noexcept = default;
  error& operator=(const error&) noexcept = default;
  ~error() override;

  [[nodiscard]] errc code() const noexcept { return code_; }
  [[nodiscard]] tenantry::execution execution() const noexcept { return execution_; }

  /// True when the same call may succeed later and repeating it cannot apply it twice: the command did not run,
  /// and the cause is transient.
  [[nodiscard]] bool retryable() const noexcept;

 private:
  errc code_;
  tenantry::execution execution_;
};

/// A tenant id, tag or key argument that cannot be a name.
class TENANTRY_EXPORT invalid_name : public error {
 public:
  explicit invalid_name(const std::string& message);
  invalid_name(const invalid_name&) noexcept = default;
  invalid_name& operator=(const invalid_name&) noexcept = default;
  ~invalid_name() override;
};

/// An option, URL or argument out of range; nothing was done.
class TENANTRY_EXPORT invalid_option : public error {
 public:
  explicit invalid_option(const std::string& message);
  invalid_option(const invalid_option&) noexcept = default;
  invalid_option& operator=(const invalid_option&) noexcept = default;
  ~invalid_option() override;
};

/// The server could not be reached, refused the credentials, went away, or spoke something that is not RESP2.
/// Codes: unreachable, auth, closed, connection_lost, protocol, unsupported, overloaded, forked; not_ready and server
/// where the server refused the handshake.
class TENANTRY_EXPORT connection_error : public error {
 public:
  using error::error;
  connection_error(const connection_error&) noexcept = default;
  connection_error& operator=(const connection_error&) noexcept = default;
  ~connection_error() override;
};

/// The deadline of a call passed, or its stop_token was triggered. Codes: timeout, cancelled, load_timeout.
class TENANTRY_EXPORT timeout_error : public error {
 public:
  using error::error;
  timeout_error(const timeout_error&) noexcept = default;
  timeout_error& operator=(const timeout_error&) noexcept = default;
  ~timeout_error() override;
};

/// The server answered with an error reply.
class TENANTRY_EXPORT server_error : public error {
 public:
  /// `text` is the server's line without the leading '-': "WRONGTYPE Operation against a key ...".
  server_error(std::string_view command, std::string_view text);
  server_error(const server_error&) noexcept = default;
  server_error& operator=(const server_error&) noexcept = default;
  ~server_error() override;

  /// The server's own words, unchanged.
  [[nodiscard]] const std::string& server_text() const noexcept { return *text_; }

 private:
  std::shared_ptr<const std::string> text_;
};

/// A value is not there and must not be loaded yet, because its loader failed a moment ago, in this or another process.
class TENANTRY_EXPORT load_failed : public error {
 public:
  load_failed(const std::string& message, std::chrono::milliseconds left);
  load_failed(const load_failed&) noexcept = default;
  load_failed& operator=(const load_failed&) noexcept = default;
  ~load_failed() override;

  /// When the next fetch calls the loader again.
  [[nodiscard]] std::chrono::milliseconds retry_after() const noexcept { return left_; }

 private:
  std::chrono::milliseconds left_;
};

}  // namespace tenantry
