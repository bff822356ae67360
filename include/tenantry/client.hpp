#pragma once
// The client: one object per Redis and program, shared by all its threads.

#include <tenantry/command.hpp>
#include <tenantry/export.hpp>
#include <tenantry/reply.hpp>
#include <tenantry/script.hpp>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenantry {

namespace detail {
class blocking_driver;
}

/// A timeout that never passes. It has to be asked for by name.
inline constexpr std::chrono::milliseconds no_timeout = std::chrono::milliseconds::max();

/// Where Redis is and how to talk to it.
struct TENANTRY_EXPORT client_options {
  std::string host = "localhost";
  std::uint16_t port = 6379;
  std::string unix_socket = {};  ///< path; when not empty, host and port are not used
  std::string username = {};     ///< ACL user; empty: the user "default"
  std::string password = {};     ///< empty: no AUTH
  std::uint32_t database = 0;
  std::string client_name = {};  ///< shown by CLIENT LIST; printable ASCII without spaces

  /// From the call to its result: waiting, connecting, writing and the reply.
  std::chrono::milliseconds timeout = std::chrono::seconds{1};
  /// One attempt to connect, with name resolution and handshake; never beyond the deadline of the call that makes it.
  std::chrono::milliseconds connect_timeout = std::chrono::seconds{2};
  reply_limits limits{};

  /// The options of a URL; everything it does not name has its default.
  ///
  ///     redis://[[user]:password@]host[:port][/database][?client_name=name&timeout=250ms]
  ///     unix://[[user]:password@]/path/to.sock[?db=0&...]
  ///
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
};

/// The calls of a client under fixed options. A client is the caller with its own defaults; `with` makes others.
///
/// Every call is one round trip unless it says otherwise, has one deadline for everything it waits for, and completes
/// exactly once. A command whose first byte was written is never sent again.
///
/// Errors, all calls: connection_error, timeout_error and server_error, each with the `execution()` of the command;
///   refused_command for what would break the connection for other callers (SELECT, SUBSCRIBE, MULTI, BLPOP, ...).
/// Threads: safe on one object from many threads; their commands share a connection and are pipelined.
/// Lifetime: a caller must not outlive its client.
class TENANTRY_EXPORT caller {
 public:
  /// Sends one command and waits for its reply. An error reply throws server_error.
  ///
  ///     redis.execute("SET", k, value, "PX", 300'000);
  template <class... Args>
  reply execute(std::string_view name, const Args&... args) const {
    return execute(command{name, args...});
  }
  reply execute(const command& one) const;

  /// Sends all commands in one write and returns their replies in order. An error reply is a value here
  /// (`reply::is_error`); the others still count. Not atomic: commands of other callers may run in between.
  std::vector<reply> execute_all(std::span<const command> commands) const;
  std::vector<reply> execute_all(std::initializer_list<command> commands) const {
    return execute_all(std::span{commands.begin(), commands.size()});
  }

  /// Runs a script. KEYS and ARGV are its keys and arguments.
  ///
  /// Cost: one round trip; two when the server does not have the script yet (EVALSHA, then EVAL once on NOSCRIPT).
  /// Atomic: yes, a script runs alone.
  reply eval(const script& what, std::span<const std::string_view> keys,
             std::span<const std::string_view> arguments = {}) const;
  reply eval(const script& what, std::initializer_list<std::string_view> keys,
             std::initializer_list<std::string_view> arguments = {}) const {
    return eval(what, std::span{keys.begin(), keys.size()}, std::span{arguments.begin(), arguments.size()});
  }

 protected:
  caller(detail::blocking_driver& driver, call_options options) : driver_{&driver}, options_{std::move(options)} {}

 private:
  void run(std::span<const command> commands, std::span<reply> replies,
           std::chrono::steady_clock::time_point deadline) const;
  reply execute_until(std::chrono::steady_clock::time_point deadline, const command& one) const;

  friend class client;
  detail::blocking_driver* driver_;
  call_options options_;
};

/// One Redis server, reached over one shared connection that is opened by the first call and again after it was lost.
///
///     tenantry::client redis{"redis://localhost:6379/0"};
///     redis.execute("SET", "greeting", "hello");
///
/// Not promised: that a command runs exactly once. When the connection is lost, or a deadline passes, after a command
/// was written, it ends with execution::unknown and is not repeated.
///
/// Threads: all members from any thread. The client starts no thread, except for a moment to resolve a host name.
/// Lifetime: destroying it is `close` without waiting; no other thread may be about to call it.
class TENANTRY_EXPORT client : public caller {
 public:
  /// Errors: invalid_option. Does not connect yet, so a program can start before its Redis.
  explicit client(std::string_view url);
  explicit client(client_options options);
  client(const client&) = delete;
  client& operator=(const client&) = delete;
  ~client();

  /// The same client under other options: `auto fast = redis.with({.timeout = 50ms}); fast.execute(...)`.
  [[nodiscard]] caller with(call_options options) const;

  /// Refuses new calls (errc::closed), waits up to `drain` for those under way, then ends the rest: not_sent or
  /// unknown. Idempotent, from any thread.
  void close(std::chrono::milliseconds drain = std::chrono::seconds{5});

 private:
  explicit client(std::unique_ptr<detail::blocking_driver> driver);

  std::unique_ptr<detail::blocking_driver> owned_;
};

}  // namespace tenantry
