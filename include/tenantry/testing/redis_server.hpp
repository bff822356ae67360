#pragma once
// A private, throw-away Redis server for tests and demos.

#include <tenantry/export.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace tenantry::testing {

struct redis_server_options {
  /// Passed to the server last, for example `{"--requirepass", "secret"}`. Leave `--unixsocket`, `--dir` and
  /// `--daemonize` alone: readiness and cleanup depend on them.
  std::vector<std::string> arguments{};
  /// The server to run. Empty: `$TENANTRY_REDIS_SERVER`, else `redis-server`, else `valkey-server`, found through PATH.
  /// A script that wraps a server must end in `exec`.
  std::string program{};
  /// How long the server may take until it answers.
  std::chrono::milliseconds start_timeout = std::chrono::seconds{10};
  /// The TCP port on 127.0.0.1. Empty: a free one below 55536, so that a cluster bus has room above it.
  std::optional<std::uint16_t> port{};
};

/// True where a `redis_server` with default options would find a program to run.
[[nodiscard]] TENANTRY_EXPORT bool redis_server_available();

/// A Redis (or Valkey) server of one's own, on 127.0.0.1 and on a unix socket in a fresh temporary directory.
///
/// It keeps nothing: no persistence, and it ends by SIGKILL. A guard process in a session of its own ends the server
/// and removes the directory when this object stops, and also when the program exits, aborts or is killed. A child that
/// the program forks and that lives on without `exec` keeps the server alive until it ends too, and does not own it.
///
/// Threads: calls on one object must not overlap, except `url`, `unix_url`, `port`, `socket_path` and `directory`.
/// Different objects are independent.
class TENANTRY_EXPORT redis_server {
 public:
  /// Starts a server and returns when it answers PING.
  /// Errors: std::runtime_error that names what failed, with the end of the server's own log where there is one.
  explicit redis_server(redis_server_options options = {});

  /// Stops the server. A moved-from object can only be assigned to or destroyed.
  ~redis_server();
  redis_server(redis_server&& other) noexcept;
  redis_server& operator=(redis_server&& other) noexcept;

  /// `redis://127.0.0.1:PORT`
  [[nodiscard]] std::string url() const;
  /// `unix://` and the path of the socket.
  [[nodiscard]] std::string unix_url() const;
  [[nodiscard]] std::uint16_t port() const noexcept;
  [[nodiscard]] const std::string& socket_path() const noexcept;
  [[nodiscard]] const std::filesystem::path& directory() const noexcept;

  /// The server's own process id.
  /// Errors: std::runtime_error where no server runs, because no number is safe to give to `kill`.
  [[nodiscard]] pid_t pid() const;

  /// Ends the server and removes its directory; afterwards no process is left. Does nothing the second time.
  void stop() noexcept;

  /// Ends the server at once, as a crash would. Its port and directory stay reserved. Does nothing where none runs.
  /// Errors: std::runtime_error where the guard process is gone.
  void kill();

  /// Starts the server on the same port and socket after `kill`, or after it ended by itself; returns when it answers.
  /// It is empty, unless the arguments turned persistence on. Does nothing while the server runs.
  /// Errors: as the constructor; also after `stop`.
  void start();

  /// Freezes the server: connections stay open and the kernel still accepts new ones, but nothing answers.
  /// Errors: std::runtime_error where no server runs.
  void pause();

  /// Ends a `pause`.
  /// Errors: std::runtime_error where no server runs.
  void resume();

  /// What the server has logged so far; nothing after `stop`.
  [[nodiscard]] std::string log() const;

 private:
  class impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace tenantry::testing
