#pragma once
// The process between a test and its server: it ends the server and cleans up however the test ends.

#include "testing/unique_fd.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace tenantry::testing {

[[noreturn]] void fail(const std::string& what);
[[noreturn]] void fail_errno(const std::string& what, int error);

/// Owns a directory and a guard process, which is a small `/bin/sh` script in a session of its own. The guard is the
/// server's parent; when this process orders it to, or is gone, it kills the server and removes the directory.
///
/// Threads: not synchronized. A forked child that destroys its copy changes nothing.
class guard {
 public:
  /// Takes `directory`, also when it throws. What the server prints goes to `log`.
  guard(std::filesystem::path directory, const std::filesystem::path& log, const std::filesystem::path& program,
        const std::vector<std::string>& arguments);
  ~guard() { finish(); }
  guard(const guard&) = delete;
  guard& operator=(const guard&) = delete;

  /// Runs `program --port PORT arguments...`. Only where no server runs.
  void start_server(std::uint16_t port);

  /// Kills the server where it still runs. Its exit status as a shell counts it, or nothing where none was started.
  std::optional<long> end_server();

  /// The server's pid, or nothing where none runs.
  [[nodiscard]] std::optional<pid_t> server() const;

  /// Ends everything and waits for it. Does nothing the second time.
  void finish() noexcept;
  [[nodiscard]] bool finished() const noexcept { return finished_; }

 private:
  void spawn(std::vector<std::string> words);
  long command(const std::string& line);

  std::filesystem::path directory_;
  pid_t owner_;
  pid_t guard_ = 0;
  unique_fd control_;  // the only copy outside the guard: its end of file is the guard's order to clean up
  unique_fd alive_;    // one byte when the server starts, end of file when it is gone
  mutable bool born_ = false;
  pid_t server_ = 0;  // not yet waited for by the guard
  bool finished_ = false;
};

}  // namespace tenantry::testing
