#pragma once
// Where Redis is, how to talk to it, and what a single call does differently.

#include <tenantry/bounds.hpp>
#include <tenantry/breaker_options.hpp>
#include <tenantry/executor.hpp>
#include <tenantry/export.hpp>
#include <tenantry/observer.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/tls_options.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

namespace tenantry {

class tenant_id;

/// A timeout that never passes. It has to be asked for by name.
inline constexpr std::chrono::milliseconds no_timeout = std::chrono::milliseconds::max();

/// A user of the server and its password.
struct credentials {
  std::string username = {};  ///< empty: the user "default"
  std::string password = {};
};

/// What a call does while there is no connection.
enum class when_down : unsigned char {
  wait,  ///< for the next attempt to connect, until its deadline
  fail,  ///< at once, as soon as an attempt has failed
};

/// Which commands may be written again after their connection was lost, when it is not known whether they ran. All of
/// it happens within the call's deadline and under a budget of a tenth of the client's traffic.
enum class retry : unsigned char {
  never,
  reads,       ///< commands that change nothing
  idempotent,  ///< the caller says that running this call twice does no harm
};

/// Which connection a call takes.
enum class lane_choice : unsigned char {
  by_size,  ///< the bulk lane from 256 KiB of commands on
  bulk,     ///< for large replies, behind which small ones would wait: HGETALL, a big MGET, XRANGE
};

/// Where Redis is and how to talk to it.
struct TENANTRY_EXPORT client_options {
  std::string host = "localhost";
  std::uint16_t port = 6379;
  std::string unix_socket = {};  ///< path; when not empty, host and port are not used
  std::string username = {};     ///< ACL user; empty: the user "default"
  std::string password = {};     ///< empty: no AUTH
  std::uint32_t database = 0;
  std::string client_name = {};                   ///< shown by CLIENT LIST; printable ASCII without spaces
  std::optional<tls_options> tls = std::nullopt;  ///< set: encrypt, for TCP only

  /// From the call to its result: waiting, connecting, writing and the reply.
  std::chrono::milliseconds timeout = std::chrono::seconds{1};
  /// One attempt to connect, with name resolution and handshake; never beyond the deadline of the call that makes it.
  std::chrono::milliseconds connect_timeout = std::chrono::seconds{2};
  /// A connection whose oldest command is unanswered for so long, and its deadline over, without a byte of the server,
  /// is taken for dead. Nothing: twice `timeout`, from 2 s to 1 h.
  std::optional<std::chrono::milliseconds> stall_limit = std::nullopt;
  when_down down = when_down::wait;
  call_bounds bounds{};
  reply_limits limits{};
  breaker_options breaker{};

  /// Asked before each attempt to connect, on the thread that makes it; username and password are not used then. For
  /// passwords that change. What it throws fails the attempt.
  std::function<tenantry::credentials()> provide_credentials = {};

  /// Where coroutines go on after they waited for this client. Empty: two threads of the client's own, started by the
  /// first call that needs them.
  tenantry::executor executor = {};
  tenantry::observer observer = {};

  /// The options of a URL; everything it does not name has its default.
  ///
  ///     redis://[[user]:password@]host[:port][/database][?client_name=name&timeout=250ms]
  ///     rediss://...[?ssl_ca_certs=file&ssl_ca_path=directory&ssl_certfile=file&ssl_keyfile=file]
  ///     unix://[[user]:password@]/path/to.sock[?db=0&...]
  ///
  /// rediss is TLS: its parameters fill ca_file, ca_directory, certificate_file and key_file of `tls`, tls_server_name
  /// and tls_verify=nothing_insecure the fields of that name.
  /// User, password, path and names may be percent-encoded; an IPv6 address stands in brackets; durations are a number
  /// and ms, s or min.
  /// Errors: invalid_option, naming the part; the message never holds the password.
  [[nodiscard]] static client_options from_url(std::string_view url);
};

/// What one call, or a series of calls, does differently.
struct call_options {
  /// Instead of `client_options::timeout`.
  std::optional<std::chrono::milliseconds> timeout = std::nullopt;
  /// When triggered, the call ends at once with errc::cancelled. Its command may still run if it was written.
  std::stop_token stop = {};
  tenantry::retry retry = tenantry::retry::reads;
  /// Whose share of the bounds the call takes (`call_bounds::tenant_share`); nullptr: nobody's. It has to outlive the
  /// call, with coroutines until its result is there.
  const tenant_id* tenant = nullptr;
  lane_choice lane = lane_choice::by_size;
  std::optional<when_down> down = std::nullopt;  ///< instead of `client_options::down`
};

}  // namespace tenantry
